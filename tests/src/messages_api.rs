//! A stand-in for the Messages API, good enough for the real Claude Code CLI.
//!
//! The model is a list of turns. Which one is due is read from the request itself (how many
//! answers of the model it already holds), so any number of runs can share one stand-in.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};

use crate::fault::Faults;
use crate::http_server::{HttpServer, Request, Response};
use crate::messages_stream;

/// What the model answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// Text, and the turn ends.
    Text(String),
    /// A call of one of the CLI's tools.
    Tool {
        /// `Write`, `Bash`, ...
        name: String,
        /// Its arguments. A relative `file_path` is resolved against the run's directory, as the
        /// tools want absolute ones.
        input: Value,
    },
    /// A text that ends for another reason than that it is at its end: `max_tokens`, `refusal`.
    Stopped(&'static str),
    /// Not an answer at all, with status 200.
    Garbage,
    /// An error of the API.
    Error(ApiError),
}

/// An error as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: u16,
    kind: &'static str,
    message: &'static str,
    headers: Vec<(&'static str, String)>,
}

impl ApiError {
    /// One of this status, `error.type` and message.
    pub fn new(status: u16, kind: &'static str, message: &'static str) -> Self {
        Self {
            status,
            kind,
            message,
            headers: Vec::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn response(&self) -> Response {
        let error = error(self.status, self.kind, self.message);
        let add = |response: Response, (name, value): &(&str, String)| response.header(name, value);
        self.headers.iter().fold(error, add)
    }
}

/// What the model answers to prompts that hold a word.
type Script = (&'static str, Vec<Turn>);

/// A running stand-in; dropping it stops it.
#[derive(Debug)]
pub struct MessagesApi {
    server: HttpServer,
    faults: Faults,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl MessagesApi {
    /// Starts one that goes through `turns`, and says `Done.` after the last.
    pub fn start(turns: Vec<Turn>) -> Result<Self> {
        Self::by_prompt(vec![("", turns)])
    }

    /// Starts one that goes through the turns of the script whose word comes last in the
    /// conversation, and says `Done.` after its last.
    pub fn by_prompt(scripts: Vec<Script>) -> Result<Self> {
        let (faults, requests) = (Faults::default(), Arc::<Mutex<Vec<Request>>>::default());
        let (due, seen) = (faults.clone(), Arc::clone(&requests));
        let server = HttpServer::start(move |request| {
            let mut kept = seen.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(request.clone());
            let number = kept.len();
            drop(kept);
            due.apply(|| answer(&scripts, &request, number))
        })?;
        Ok(Self {
            server,
            faults,
            requests,
        })
    }

    /// Starts one whose model writes a file, then says `text`.
    pub fn writing(path: &str, content: &str, text: &str) -> Result<Self> {
        Self::start(vec![
            Turn::Tool {
                name: "Write".into(),
                input: json!({"file_path": path, "content": content}),
            },
            Turn::Text(text.into()),
        ])
    }

    /// The value of `ANTHROPIC_BASE_URL`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Faults for the next requests.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn answer(scripts: &[Script], request: &Request, number: usize) -> Response {
    match (request.method.as_str(), request.path()) {
        ("POST", "/v1/messages") => {}
        ("HEAD", _) => return Response::new(200),
        _ => return error(404, "not_found_error", "no such route"),
    }
    if request.header("x-api-key").is_none() && request.header("authorization").is_none() {
        return error(401, "authentication_error", "x-api-key header is required");
    }
    let Some(body) = request.json() else {
        return error(400, "invalid_request_error", "the body is not JSON");
    };
    let turn = script(scripts, &body).get(answers(&body)).cloned();
    let turn = match turn.unwrap_or_else(|| Turn::Text("Done.".into())) {
        Turn::Error(error) => return error.response(),
        Turn::Garbage => return Response::json(200, &json!("?")),
        Turn::Tool { name, input } => Turn::Tool {
            name,
            input: absolute(input, &body),
        },
        other => other,
    };
    let message = messages_stream::Message::new(&turn, &body, number);
    let response = if body["stream"] == json!(true) {
        Response::new(200)
            .header("content-type", "text/event-stream; charset=utf-8")
            .header("cache-control", "no-cache")
            .stream(move |out| message.write_events(out))
    } else {
        Response::json(200, &message.whole())
    };
    response.header("request-id", &format!("req_{number:024}"))
}

fn script<'a>(scripts: &'a [Script], body: &Value) -> &'a [Turn] {
    let said = body["messages"].to_string();
    let place = |script: &&Script| said.rfind(script.0);
    let last = scripts.iter().filter(|script| place(script).is_some());
    last.max_by_key(place).map_or(&[], |(_, turns)| turns)
}

fn error(status: u16, kind: &str, message: &str) -> Response {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}});
    Response::json(status, &body)
}

/// How many answers of the model a conversation holds since the last prompt of the user.
///
/// A resumed session brings its earlier prompts along; the script begins anew with each. The
/// CLI's own news of a background command is no prompt: with it the script goes on.
fn answers(body: &Value) -> usize {
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let is_prompt = |message: &Value| {
        message["role"] == "user"
            && !holds_result(message)
            && !message.to_string().contains("<task-notification>")
    };
    let start = messages.iter().rposition(is_prompt).unwrap_or(0);
    let rest = messages[start..].iter();
    rest.filter(|message| message["role"] == "assistant")
        .count()
}

fn holds_result(message: &Value) -> bool {
    let blocks = message["content"].as_array();
    blocks.is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "tool_result"))
}

/// Makes `file_path` absolute with the directory that the CLI names in its system prompt.
fn absolute(mut input: Value, body: &Value) -> Value {
    let relative = input["file_path"]
        .as_str()
        .filter(|path| !path.starts_with('/'));
    if let (Some(path), Some(dir)) = (relative, working_directory(body)) {
        input["file_path"] = json!(Path::new(&dir).join(path));
    }
    input
}

fn working_directory(body: &Value) -> Option<String> {
    let mut found = None;
    each_text(body, &mut |text| {
        let line = text.lines().find_map(|line| {
            let (label, value) = line.split_once(": ")?;
            label
                .to_ascii_lowercase()
                .ends_with("working directory")
                .then_some(value)
        });
        found = found
            .take()
            .or_else(|| line.map(|line| line.trim().to_owned()));
    });
    found
}

/// Visits every text of the system prompt and the messages.
fn each_text(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, visit)),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| ["system", "messages", "content", "text"].contains(&name.as_str()))
            .for_each(|(_, item)| each_text(item, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
