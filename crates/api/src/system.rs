//! `/health`, `/queue` and `/sync`.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use agent_client::wire::{Health, QueueView, SyncResult};

use crate::body::NoBody;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::ApiState;
use crate::{map, parse};

pub(crate) async fn health(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<Json<Health>, Problem> {
    Query::parse(request.query_string(), &[])?;
    Ok(Json(map::health(state.engine.health().await?)))
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
    _: NoBody,
) -> Result<Json<SyncResult>, Problem> {
    Query::parse(request.query_string(), &[])?;
    let synced = state.engine.sync().await?;
    Ok(Json(SyncResult {
        synced: synced.into_iter().map(map::synced).collect(),
    }))
}
