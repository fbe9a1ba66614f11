//! `/credentials`.

use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use agent_client::wire::{
    Credential, CredentialHealth, CredentialLimit, CredentialList, CredentialWindow,
};
use agent_domain::{Stopped, Timestamp, iso_millis};
use agent_queue::{CredentialView, EngineError};

use crate::body::NoBody;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::ApiState;

pub(crate) async fn list(
    state: Data<ApiState>,
    request: HttpRequest,
) -> Result<Json<CredentialList>, Problem> {
    Query::parse(request.query_string(), &[])?;
    let views = state.engine.credentials().await?;
    let now = state.engine.now();
    let credentials = views.into_iter().map(|view| credential(view, now));
    Ok(Json(CredentialList {
        credentials: credentials.collect(),
    }))
}

/// Needs no idempotency key: done twice it is done once.
pub(crate) async fn resume(
    state: Data<ApiState>,
    request: HttpRequest,
    _body: NoBody,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let name = request.match_info().query("name").parse();
    let name = name.map_err(|_| EngineError::CredentialNotFound)?;
    let view = state.engine.resume_credential(&name).await?;
    let now = state.engine.now();
    Ok(HttpResponse::Ok().json(credential(view, now)))
}

fn credential(view: CredentialView, now: Timestamp) -> Credential {
    let brief = brief(&view, now);
    let CredentialView { credential, state } = view;
    let limits = state.limits.into_iter().filter(|limit| limit.until > now);
    let limits = limits.map(|limit| CredentialLimit {
        models: limit.family,
        until: iso_millis(limit.until),
    });
    let open = state.windows.into_iter();
    let open = open.filter(|window| window.resets_at > now);
    let windows = open.map(|window| CredentialWindow {
        kind: window.kind,
        used: window.used,
        resets_at: iso_millis(window.resets_at),
    });
    let clients = credential.clients.map(|clients| {
        let clients = clients.iter().map(ToString::to_string);
        clients.collect()
    });
    let (reason, error, stopped_at) = match state.stopped {
        Some(Stopped { at, reason, error }) => {
            (Some(reason.code().to_owned()), Some(error), Some(at))
        }
        None => (None, None, None),
    };
    Credential {
        name: brief.name,
        kind: credential.kind.as_str().to_owned(),
        status: brief.status,
        limited_until: brief.limited_until,
        limits: limits.collect(),
        reason,
        error,
        stopped_at: stopped_at.map(iso_millis),
        running: state.running,
        max_sessions: credential.max_sessions,
        clients,
        windows: windows.collect(),
    }
}

/// What health shows of a credential.
pub(crate) fn brief(view: &CredentialView, now: Timestamp) -> CredentialHealth {
    let state = &view.state;
    let of_all = state.limits.iter().filter(|limit| limit.family.is_none());
    let until = of_all.map(|limit| limit.until).filter(|at| *at > now).max();
    let status = match (&state.stopped, until) {
        (Some(_), _) => "stopped",
        (None, Some(_)) => "limited",
        (None, None) => "ok",
    };
    CredentialHealth {
        name: state.name.to_string(),
        status: status.to_owned(),
        limited_until: until.map(iso_millis),
    }
}
