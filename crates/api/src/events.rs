//! `GET /jobs/:id/events`: a run as typed events, page by page.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use agent_client::wire::EventPage;

use crate::problem::Problem;
use crate::query::Query;
use crate::state::ApiState;
use crate::{event_map, path};

/// Most events of a page that may be asked for.
const LIMIT_MAX: u32 = 1000;
const LIMIT: u32 = 200;

pub(crate) async fn get(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<Json<EventPage>, Problem> {
    let query = Query::parse(request.query_string(), &["after", "limit"])?;
    let id = path::job_id(&request)?;
    let after = query.whole("after")?.unwrap_or(0);
    let limit = query.number("limit", 1..=LIMIT_MAX, LIMIT)?;
    let page = state.engine.events(id, after, limit as usize).await?;
    Ok(Json(event_map::page(page)))
}
