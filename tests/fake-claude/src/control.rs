//! Streamed input: several turns in one process, and a request to stop the present one.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use serde_json::{Value, json};

use crate::signals;
use crate::state::{Fields, Shared};

/// What came in.
#[derive(Debug)]
pub(crate) enum Message {
    /// A prompt, and the event as sent.
    Prompt(String, Value),
    /// A line that is no message.
    Bad(String),
}

/// Reads standard input on a thread of its own, so that a turn can be interrupted.
pub(crate) fn listen(shared: &Arc<Shared>) -> Receiver<Message> {
    let (sender, receiver) = mpsc::channel();
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            let message = match serde_json::from_str::<Value>(&line) {
                _ if line.trim().is_empty() => continue,
                Ok(event) if event["type"] == "control_request" => {
                    control(&shared, &event);
                    continue;
                }
                Ok(event) if event["type"] == "user" => Message::Prompt(prompt(&event), event),
                Ok(_) | Err(_) => Message::Bad(line),
            };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}

fn prompt(event: &Value) -> String {
    let content = &event["message"]["content"];
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let blocks = content.as_array().map_or(&[][..], Vec::as_slice);
    let texts: Vec<&str> = blocks
        .iter()
        .filter_map(|block| block["text"].as_str())
        .collect();
    texts.join("\n")
}

fn control(shared: &Shared, event: &Value) {
    let mut state = shared.lock();
    let response = json!({
        "subtype": "success", "request_id": event["request_id"], "response": {},
    });
    let fields: Fields = vec![("type", json!("control_response")), ("response", response)];
    state.emit(&fields);
    if event["request"]["subtype"] == "interrupt" {
        signals::kill_tools(&state);
        shared.interrupt(&mut state);
    }
}
