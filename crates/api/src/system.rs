//! `/health`, `/queue` and `/sync`.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use agent_client::wire::{Health, QueueView, SyncResult};
use agent_domain::Answer;
use agent_queue::Synced;

use crate::body::NoBody;
use crate::once::{self, Content};
use crate::problem::Problem;
use crate::query::Query;
use crate::state::ApiState;
use crate::{map, parse};

pub(crate) async fn health(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<Json<Health>, Problem> {
    Query::parse(request.query_string(), &[])?;
    let health = state.engine.health().await?;
    Ok(Json(map::health(health, state.engine.now())))
}

pub(crate) async fn queue(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<Json<QueueView>, Problem> {
    let limit = parse::queue_limit(request.query_string())?;
    let view = state.engine.queue(limit).await?;
    let (slots, now) = (state.engine.max_concurrent(), state.engine.now());
    Ok(Json(map::queue(view, limit, slots, now)))
}

pub(crate) async fn sync(
    state: Data<ApiState>,
    request: HttpRequest,
    body: NoBody,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let once = once::asked(&request, || Content::whole(&body.bytes), synced)?;
    once::respond(state.engine.sync_once(once).await?, synced)
}

#[expect(clippy::ptr_arg, reason = "what the engine gives is a vector")]
fn synced(repos: &Vec<Synced>) -> Answer {
    let synced = repos.iter().cloned().map(map::synced).collect();
    once::answer(StatusCode::OK, &SyncResult { synced })
}
