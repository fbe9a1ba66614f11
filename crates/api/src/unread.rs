//! Bodies that nobody reads to their end.
//!
//! A body of announced length that an answer leaves unread ends its connection soon after. A
//! chunked one would not: once its reader is gone, the protocol layer reads on and throws away,
//! without bounds, even for a caller without a token. Kept until its answer is sent, it is
//! treated like the other.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use actix_web::{Error, HttpMessage as _};
use futures_util::Stream;

/// Keeps a chunked body until its answer is sent.
pub(crate) async fn keep<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if !request.headers().contains_key(TRANSFER_ENCODING) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let kept = Rc::new(RefCell::new(request.take_payload()));
    let payload = Box::pin(Shared(Rc::clone(&kept)));
    request.set_payload(Payload::Stream { payload });
    let answer = next.call(request).await?;
    Ok(answer.map_body(|_, body| {
        let body = body.boxed();
        BoxBody::new(Keeping { body, _kept: kept })
    }))
}

/// What the reader of the body reads.
struct Shared(Rc<RefCell<Payload>>);

impl Stream for Shared {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)
    }
}

/// The body of the answer, with the request's beside it.
struct Keeping {
    body: BoxBody,
    _kept: Rc<RefCell<Payload>>,
}

impl MessageBody for Keeping {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
