//! `/jobs`, but for logs and history.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use agent_client::wire::{CreateJob, CreateMessage, JobDetails, JobList, RetryJob, UpdateJob};
use agent_domain::{Answer, JobId};
use agent_queue::{Accepted, CancelOutcome};

use crate::body::{JsonBody, MaybeBody, NoBody};
use crate::once::{self, Content};
use crate::problem::Problem;
use crate::query::Query;
use crate::state::ApiState;
use crate::{job_map, map, messages, parse, path};

pub(crate) async fn list(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<Json<JobList>, Problem> {
    let filter = parse::job_filter(request.query_string())?;
    let page = state.engine.jobs(filter.clone()).await?;
    Ok(Json(map::job_list(page, &filter)))
}

pub(crate) async fn get(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["includeMessages", "raw"])?;
    let include_messages = query.flag("includeMessages", false)?;
    let raw = query.flag("raw", false)?;
    let found = state.engine.job(path::job_id(&request)?).await?;
    let seals = state.engine.seals(found.job.id).await?;
    if !include_messages {
        return Ok(HttpResponse::Ok().json(map::job_details(found, &seals)));
    }
    let batches = state.engine.messages(&found.job, raw).await?;
    let body = messages::stream(&state, &map::job_details(found, &seals), batches).await?;
    let json = HeaderValue::from_static("application/json");
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, json))
        .streaming(body))
}

pub(crate) async fn create(
    state: Data<ApiState>,
    request: HttpRequest,
    body: JsonBody<CreateJob>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let content = || {
        let job = &body.value;
        Content::sealed(&body.bytes, job.secrets.as_ref(), &state.seal, |names| {
            CreateJob {
                secrets: Some(names),
                ..job.clone()
            }
        })
    };
    let once = once::asked(&request, content, created)?;
    let submission = parse::submission(body.value)?;
    // A job may say so much that the future of it is large.
    let reply = Box::pin(state.engine.submit_once(submission, once)).await?;
    once::respond(reply, created)
}

fn created(accepted: &Accepted) -> Answer {
    once::answer(StatusCode::CREATED, &map::job_created(accepted))
}

pub(crate) async fn update(
    state: Data<ApiState>,
    request: HttpRequest,
    body: JsonBody<UpdateJob>,
) -> Result<Json<JobDetails>, Problem> {
    Query::parse(request.query_string(), &[])?;
    let id = path::job_id(&request)?;
    let priority = parse::job_change(body.value)?;
    state.engine.reprioritize(id, priority).await?;
    let found = state.engine.job(id).await?;
    let seals = state.engine.seals(id).await?;
    Ok(Json(map::job_details(found, &seals)))
}

pub(crate) async fn cancel(
    state: Data<ApiState>,
    request: HttpRequest,
    body: NoBody,
) -> Result<HttpResponse, Problem> {
    let wait = Query::parse(request.query_string(), &["wait"])?.flag("wait", true)?;
    let id = path::job_id(&request)?;
    let once = once::asked(&request, || Content::whole(&body.bytes), cancelled)?;
    once::respond(state.engine.cancel_once(id, wait, once).await?, cancelled)
}

fn cancelled(outcome: &CancelOutcome) -> Answer {
    let ended = outcome.job.state.ended_at().is_some();
    let status = if ended {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    once::answer(status, &map::cancelled(outcome))
}

pub(crate) async fn release(
    state: Data<ApiState>,
    request: HttpRequest,
    body: NoBody,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let id = path::job_id(&request)?;
    let released = |id: &JobId| once::answer(StatusCode::OK, &job_map::released(*id));
    let once = once::asked(&request, || Content::whole(&body.bytes), released)?;
    once::respond(state.engine.release_once(id, once).await?, released)
}

pub(crate) async fn retry(
    state: Data<ApiState>,
    request: HttpRequest,
    body: MaybeBody<RetryJob>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let original = path::job_id(&request)?;
    let retried = move |accepted: &Accepted| {
        let body = job_map::job_retried(accepted, original.to_string());
        once::answer(StatusCode::CREATED, &body)
    };
    let content = || {
        let secrets = body.value.secrets.as_ref();
        Content::sealed(&body.bytes, secrets, &state.seal, |names| RetryJob {
            secrets: Some(names),
            ..body.value.clone()
        })
    };
    let once = once::asked(&request, content, retried)?;
    let resume = body.value.resume.unwrap_or(false);
    let secrets = parse::secrets(body.value.secrets)?;
    let reply = state.engine.retry_once(original, secrets, resume, once);
    once::respond(reply.await?, retried)
}

pub(crate) async fn message(
    state: Data<ApiState>,
    request: HttpRequest,
    body: JsonBody<CreateMessage>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let original = path::job_id(&request)?;
    let continued = move |accepted: &Accepted| {
        let body = job_map::job_continued(accepted, original.to_string());
        once::answer(StatusCode::CREATED, &body)
    };
    let content = || {
        let secrets = body.value.secrets.as_ref();
        Content::sealed(&body.bytes, secrets, &state.seal, |names| CreateMessage {
            secrets: Some(names),
            ..body.value.clone()
        })
    };
    let once = once::asked(&request, content, continued)?;
    let CreateMessage { prompt, secrets } = body.value;
    parse::prompt_given(&prompt)?;
    let secrets = parse::secrets(secrets)?;
    let reply = state
        .engine
        .message_once(original, prompt.into(), secrets, once);
    once::respond(reply.await?, continued)
}
