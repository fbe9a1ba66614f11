//! `/jobs/:id/history` and `/jobs/:id/deliveries`.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use agent_client::wire::{DeliveryList, JobHistory, Redelivered};
use agent_domain::{Timestamp, iso_millis};

use crate::body::NoBody;
use crate::once::{self, Content};
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

pub(crate) async fn redeliver(
    state: Data<ApiState>,
    request: HttpRequest,
    body: NoBody,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let (job, id) = (path::job_id(&request)?, path::delivery_id(&request)?);
    let due = move |at: &Timestamp| {
        let body = Redelivered {
            id: id.to_string(),
            state: "pending".to_owned(),
            due_at: iso_millis(*at),
        };
        once::answer(StatusCode::ACCEPTED, &body)
    };
    let once = once::asked(&request, || Content::whole(&body.bytes), due)?;
    once::respond(state.engine.redeliver_once(job, id, once).await?, due)
}
