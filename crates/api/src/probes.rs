//! `/livez` and `/readyz`, for whoever restarts servers and spreads load. Neither needs a token.

use std::collections::BTreeMap;

use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use agent_client::wire::Readiness;

use crate::map;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::ApiState;

/// The process answers; a restart would mend nothing.
pub(crate) async fn live(request: HttpRequest) -> Result<Json<Readiness>, Problem> {
    Query::parse(request.query_string(), &[])?;
    Ok(Json(Readiness {
        status: "alive".to_owned(),
        checks: BTreeMap::new(),
    }))
}

/// 200 when new work would be taken now, else 503 with what is wrong.
pub(crate) async fn ready(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let readiness = state.engine.readiness().await;
    let mut answer = if readiness.is_ready() {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    Ok(answer.json(map::readiness(readiness)))
}
