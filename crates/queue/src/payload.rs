//! The body of a callback, field for field as the agent server specification has it.

use agent_domain::{Job, JsonText, State, iso_millis};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    job_id: String,
    os_feature_id: Option<&'a str>,
    status: &'static str,
    pr_url: Option<&'a str>,
    pr_number: Option<u64>,
    files_changed: Option<u64>,
    error: Option<&'a str>,
    completed_at: Option<String>,
    // These are not in the specification, so only jobs that have asked for them have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

/// JSON as it is; whoever has made it has written it as JSON.
fn raw(json: &JsonText) -> Option<&RawValue> {
    serde_json::from_str(json.as_str()).ok()
}

/// Writes the callback body of a job that has ended.
pub(crate) fn body(job: &Job) -> String {
    let pull_request = job.facts.pull_request.as_ref();
    let payload = Payload {
        job_id: job.id.to_string(),
        os_feature_id: job.spec.os_feature_id.as_deref(),
        status: job.state.status().as_str(),
        pr_url: pull_request.map(|found| found.url.as_str()),
        pr_number: pull_request.map(|found| found.number),
        files_changed: job.facts.files_changed,
        error: match &job.state {
            State::Failed { error, .. } => Some(error),
            _ => None,
        },
        completed_at: job.state.ended_at().map(iso_millis),
        output: job.facts.output.as_ref().and_then(raw),
        metadata: job.spec.metadata.as_ref().and_then(raw),
    };
    // A struct of texts and numbers always has a JSON form.
    serde_json::to_string(&payload).unwrap_or_default()
}
