//! `GET /jobs/:id?includeMessages=true`: a JSON object whose last member is as long as the log.

use actix_web::web::Bytes;
use agent_client::wire::JobDetails;
use agent_queue::{EngineError, Message};
use tokio::sync::mpsc;

use crate::map;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::stream::{Broken, Sink, Streamed};

type Batches = mpsc::Receiver<Result<Vec<Message>, EngineError>>;

/// Begins the answer; a log that cannot be read at all is still an ordinary error.
pub(crate) async fn stream(
    state: &ApiState,
    details: &JobDetails,
    mut batches: Batches,
) -> Result<Streamed, Problem> {
    let head = head(details)?;
    let first = batches.recv().await.transpose()?;
    Ok(Streamed::new(state.limits.stall_timeout, |sink| {
        write(sink, head, first, batches)
    }))
}

async fn write(
    sink: Sink,
    head: Vec<u8>,
    first: Option<Vec<Message>>,
    mut batches: Batches,
) -> Result<(), Broken> {
    sink.send(head).await?;
    let mut batch = first;
    let mut separator = "";
    while let Some(messages) = batch {
        sink.send(encode(messages, &mut separator)?).await?;
        batch = batches.recv().await.transpose()?;
    }
    sink.send(Bytes::from_static(b"]}")).await
}

/// The object up to the first message.
fn head(details: &JobDetails) -> Result<Vec<u8>, Problem> {
    let json = serde_json::to_vec(details);
    let mut json = json.map_err(|_| Problem::internal("the job cannot be written as JSON"))?;
    // The object's closing brace comes after the messages.
    json.pop();
    json.extend_from_slice(b",\"messages\":[");
    Ok(json)
}

fn encode(messages: Vec<Message>, separator: &mut &'static str) -> Result<Vec<u8>, Broken> {
    let mut json = Vec::with_capacity(
        messages
            .iter()
            .map(|message| message.text.len() + 128)
            .sum(),
    );
    for message in messages {
        json.extend_from_slice(separator.as_bytes());
        *separator = ",";
        serde_json::to_writer(&mut json, &map::message(message))
            .map_err(|error| EngineError::Log(error.into()))?;
    }
    Ok(json)
}
