//! `/jobs/:id/log`: the log as it is on disk, from any byte on, as it grows.
//!
//! The offset counts the bytes of all attempts in order, or those of the one that is asked for. The
//! answer's `X-Log-Offset` says where it begins; that plus the bytes received is where to go on after
//! a broken connection. The whole log of an attempt that has ended comes with its checksum, as
//! `Repr-Digest` (RFC 9530).

use actix_web::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use agent_queue::{EngineError, LogRange};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::mpsc;

use crate::path;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::ApiState;
use crate::stream::{Broken, Sink, Streamed};

type Chunks = mpsc::Receiver<Result<Bytes, EngineError>>;

pub(crate) async fn get(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["attempt", "offset", "follow"])?;
    let id = path::job_id(&request)?;
    let attempt = query.get("attempt").is_some();
    let range = LogRange {
        attempt: attempt
            .then(|| query.number("attempt", 1..=u32::MAX, 1))
            .transpose()?,
        offset: query.whole("offset")?.unwrap_or(0),
        follow: query.flag("follow", false)?,
    };
    let LogRange { offset, follow, .. } = range;
    let seals = state.engine.seals(id).await?;
    let chunks = state.engine.log(id, range).await?;
    let stopping = state.stopping.clone();
    let body = Streamed::new(state.limits.stall_timeout, move |sink| async move {
        tokio::select! {
            copied = copy(sink, chunks) => copied,
            () = stopping.cancelled(), if follow => Err(Broken::Stopping),
        }
    });
    let mut answer = HttpResponse::Ok();
    let sealed = seals.iter().find(|(n, _)| Some(*n) == range.attempt);
    if let Some((_, seal)) = sealed.filter(|_| offset == 0) {
        let digest = STANDARD.encode(seal.sha256);
        answer.insert_header(("repr-digest", format!("sha-256=:{digest}:")));
    }
    Ok(answer
        // The agent's own words: nothing may take them for anything but text.
        .content_type("text/plain")
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-log-offset", offset.to_string()))
        // Proxies that collect answers before passing them on would keep a follower waiting.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body))
}

async fn copy(sink: Sink, mut chunks: Chunks) -> Result<(), Broken> {
    while let Some(chunk) = chunks.recv().await {
        sink.send(chunk?).await?;
    }
    Ok(())
}
