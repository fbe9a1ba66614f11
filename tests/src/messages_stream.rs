//! One answer of the model, as a stream of events or as a whole.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::messages_api::Turn;

/// Characters per delta: small, so that a client has to join them.
const DELTA_CHARS: usize = 16;

/// An answer ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    id: String,
    model: Value,
    block: Value,
    stop_reason: &'static str,
}

impl Message {
    pub(crate) fn new(turn: &Turn, request: &Value, number: usize) -> Self {
        let (block, stop_reason) = match turn {
            Turn::Tool { name, input } => (
                json!({"type": "tool_use", "id": format!("toolu_{number:024}"), "name": name, "input": input}),
                "tool_use",
            ),
            Turn::Text(text) => (json!({"type": "text", "text": text}), "end_turn"),
            Turn::Stopped(reason) => (json!({"type": "text", "text": "I"}), *reason),
            // These are answered before a message is made of them.
            Turn::Garbage | Turn::Error(_) => (json!({"type": "text", "text": ""}), "end_turn"),
        };
        Self {
            id: format!("msg_{number:024}"),
            model: request["model"].clone(),
            block,
            stop_reason,
        }
    }

    fn envelope(&self, content: &Value, stop_reason: &Value) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": stop_reason, "stop_sequence": null,
            "usage": {
                "input_tokens": 12, "output_tokens": 7,
                "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            },
        })
    }

    /// The answer to a request without streaming.
    pub(crate) fn whole(&self) -> Value {
        self.envelope(&json!([self.block]), &json!(self.stop_reason))
    }

    /// The answer as server-sent events.
    pub(crate) fn write_events(&self, out: &mut dyn Write) -> io::Result<()> {
        for event in self.events() {
            let kind = event["type"].as_str().unwrap_or_default();
            write!(out, "event: {kind}\ndata: {event}\n\n")?;
            out.flush()?;
        }
        Ok(())
    }

    fn events(&self) -> Vec<Value> {
        let (empty, text, delta) = if self.block["type"] == "text" {
            let text = self.block["text"].as_str().unwrap_or_default().to_owned();
            (
                json!({"type": "text", "text": ""}),
                text,
                ["text_delta", "text"],
            )
        } else {
            let mut empty = self.block.clone();
            empty["input"] = json!({});
            let text = self.block["input"].to_string();
            (empty, text, ["input_json_delta", "partial_json"])
        };
        let characters: Vec<char> = text.chars().collect();
        let mut events = vec![
            json!({"type": "message_start", "message": self.envelope(&json!([]), &Value::Null)}),
            json!({"type": "content_block_start", "index": 0, "content_block": empty}),
            json!({"type": "ping"}),
        ];
        events.extend(characters.chunks(DELTA_CHARS).map(|piece| {
            let piece: String = piece.iter().collect();
            json!({
                "type": "content_block_delta", "index": 0,
                "delta": {"type": delta[0], delta[1]: piece},
            })
        }));
        events.extend([
            json!({"type": "content_block_stop", "index": 0}),
            json!({
                "type": "message_delta",
                "delta": {"stop_reason": self.stop_reason, "stop_sequence": null},
                "usage": {"output_tokens": 7},
            }),
            json!({"type": "message_stop"}),
        ]);
        events
    }
}
