//! `/jobs/:id/log`: the log as it is on disk, from any byte on, as it grows.
//!
//! The offset counts the bytes of all attempts in order. The answer's `X-Log-Offset` says where it
//! begins; that plus the bytes received is where to go on after a broken connection.

use actix_web::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use agent_queue::EngineError;
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
    let query = Query::parse(request.query_string(), &["offset", "follow"])?;
    let offset = query.whole("offset")?.unwrap_or(0);
    let follow = query.flag("follow", false)?;
    let chunks = state
        .engine
        .log(path::job_id(&request)?, offset, follow)
        .await?;
    let stopping = state.stopping.clone();
    let body = Streamed::new(state.limits.stall_timeout, move |sink| async move {
        tokio::select! {
            copied = copy(sink, chunks) => copied,
            () = stopping.cancelled(), if follow => Err(Broken::Stopping),
        }
    });
    Ok(HttpResponse::Ok()
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
