//! `/clients`.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use agent_client::wire::{
    ClientDeleted, ClientDetails, ClientList, ClientSummary, CreateClient, UpdateClient,
};
use agent_domain::Answer;
use agent_queue::CreatedClient;

use crate::body::{JsonBody, NoBody};
use crate::once::{self, Content};
use crate::problem::Problem;
use crate::query::Query;
use crate::state::ApiState;
use crate::{map, parse, path};

pub(crate) async fn list(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<Json<ClientList>, Problem> {
    Query::parse(request.query_string(), &[])?;
    let clients = state.engine.clients().await?;
    Ok(Json(ClientList {
        clients: clients.into_iter().map(map::client_summary).collect(),
    }))
}

pub(crate) async fn get(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<Json<ClientDetails>, Problem> {
    Query::parse(request.query_string(), &[])?;
    let details = state.engine.client(path::client_id(&request)?).await?;
    Ok(Json(map::client_details(details)))
}

pub(crate) async fn create(
    state: Data<ApiState>,
    request: HttpRequest,
    body: JsonBody<CreateClient>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let once = once::asked(&request, || Content::whole(&body.bytes), created)?;
    let new = parse::new_client(body.value)?;
    once::respond(state.engine.create_client_once(new, once).await?, created)
}

fn created(client: &CreatedClient) -> Answer {
    once::answer(StatusCode::CREATED, &map::client_created(client.clone()))
}

pub(crate) async fn update(
    state: Data<ApiState>,
    request: HttpRequest,
    body: JsonBody<UpdateClient>,
) -> Result<Json<ClientSummary>, Problem> {
    Query::parse(request.query_string(), &[])?;
    let id = path::client_id(&request)?;
    let view = state
        .engine
        .update_client(id, parse::client_change(body.value)?)
        .await?;
    Ok(Json(map::client_summary(view)))
}

pub(crate) async fn delete(
    state: Data<ApiState>,
    request: HttpRequest,
    _: NoBody,
) -> Result<Json<ClientDeleted>, Problem> {
    let query = Query::parse(request.query_string(), &["removeRepo"])?;
    let remove_repo = query.flag("removeRepo", false)?;
    let repo_removed = state
        .engine
        .delete_client(path::client_id(&request)?, remove_repo)
        .await?;
    Ok(Json(ClientDeleted {
        deleted: true,
        repo_removed,
    }))
}
