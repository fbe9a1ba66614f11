//! `/jobs/:id/history` and `/jobs/:id/deliveries`.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use agent_client::wire::{DeliveryList, JobHistory};

use crate::problem::Problem;
use crate::query::Query;
use crate::state::ApiState;
use crate::{map, path};

pub(crate) async fn changes(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<Json<JobHistory>, Problem> {
    Query::parse(request.query_string(), &[])?;
    let history = state.engine.history(path::job_id(&request)?).await?;
    Ok(Json(JobHistory {
        history: history.into_iter().map(map::history_entry).collect(),
    }))
}

pub(crate) async fn deliveries(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<Json<DeliveryList>, Problem> {
    Query::parse(request.query_string(), &[])?;
    let deliveries = state.engine.deliveries(path::job_id(&request)?).await?;
    Ok(Json(DeliveryList {
        deliveries: deliveries.into_iter().map(map::delivery).collect(),
    }))
}
