//! Ids in paths.

use actix_web::HttpRequest;
use agent_domain::{ClientId, DeliveryId, JobId};
use agent_queue::EngineError;

/// The job a path names; what cannot be an id names none.
pub(crate) fn job_id(request: &HttpRequest) -> Result<JobId, EngineError> {
    parse_job_id(request.match_info().query("id"))
}

/// The client a path names; what cannot be an id names none.
pub(crate) fn client_id(request: &HttpRequest) -> Result<ClientId, EngineError> {
    parse_client_id(request.match_info().query("id"))
}

/// The delivery a path names; what cannot be an id names none.
pub(crate) fn delivery_id(request: &HttpRequest) -> Result<DeliveryId, EngineError> {
    let text = request.match_info().query("delivery");
    text.parse().map_err(|_| EngineError::DeliveryNotFound)
}

/// See [`job_id`].
pub(crate) fn parse_job_id(text: &str) -> Result<JobId, EngineError> {
    text.parse().map_err(|_| EngineError::JobNotFound)
}

/// See [`client_id`].
pub(crate) fn parse_client_id(text: &str) -> Result<ClientId, EngineError> {
    text.parse().map_err(|_| EngineError::ClientNotFound)
}
