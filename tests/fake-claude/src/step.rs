//! The steps a script is made of, and how a line becomes one.

use std::time::Duration;

use serde_json::{Deserializer, Value};

/// One line of a script.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    // Settings: they take effect from here on and are no sign of life.
    Startup(Duration),
    NoInit,
    Record(String),
    Seed(u64),
    Price(f64),
    Delay(Duration),
    Resets(i64),
    /// Name, what is used, and in how many seconds it resets.
    Window((String, f64, i64)),
    RetrySilence(Duration),
    Structured(Value),
    Ignore(Vec<String>),
    Slow(Duration),
    Anonymous,
    StartupFailure(String),
    Hook(String),
    Stderr(String),
    Ledger {
        path: String,
        name: String,
    },
    Note {
        path: String,
        what: String,
        name: String,
    },
    // Transcript.
    Init,
    Message,
    Text(String),
    Thinking(String),
    Tool {
        name: String,
        input: Value,
        text: String,
        is_error: bool,
    },
    Denied {
        name: String,
        input: Value,
    },
    Retry {
        count: u32,
        status: Option<u16>,
        error: String,
    },
    RateLimit {
        status: String,
        kind: String,
    },
    Unknown,
    Event(String),
    Raw(Vec<u8>),
    Line {
        bytes: usize,
        count: usize,
    },
    CloseStdout,
    // Work.
    Write {
        path: String,
        text: String,
        append: bool,
    },
    Shell(String),
    Background(String),
    Commit(String),
    Survivor {
        kind: String,
        file: Option<String>,
    },
    // Time.
    Sleep(Duration),
    Hang,
    Mark(String),
    Wait(String),
    // Ends.
    Result {
        name: String,
        text: Option<String>,
    },
    Exit(u8),
    Die(String),
    // Conditions.
    IfExists {
        path: String,
        exists: bool,
        step: Box<Step>,
    },
    IfResumed {
        resumed: bool,
        step: Box<Step>,
    },
    IfPaid {
        with: String,
        step: Box<Step>,
    },
}

impl Step {
    /// Whether it may stand before the init event without causing it.
    pub(crate) fn is_setting(&self) -> bool {
        match self {
            Self::Startup(_)
            | Self::NoInit
            | Self::Record(_)
            | Self::Seed(_)
            | Self::Price(_)
            | Self::Delay(_)
            | Self::Resets(_)
            | Self::Window(_)
            | Self::RetrySilence(_)
            | Self::Structured(_)
            | Self::Ignore(_)
            | Self::Slow(_)
            | Self::Anonymous
            | Self::StartupFailure(_)
            | Self::Hook(_)
            | Self::Stderr(_)
            | Self::Ledger { .. }
            | Self::Note { .. } => true,
            Self::IfExists { step, .. }
            | Self::IfResumed { step, .. }
            | Self::IfPaid { step, .. } => step.is_setting(),
            _ => false,
        }
    }
}

/// Reads one line that is neither blank nor a comment.
pub(crate) fn parse(line: &str) -> Result<Step, String> {
    let (verb, rest) = split(line);
    let known = setting(verb, rest).or_else(|| transcript(verb, rest));
    if let Some(step) = known.or_else(|| condition(verb, rest)) {
        return step;
    }
    Ok(match verb {
        "write" | "append" => {
            let (path, text) = split(rest);
            Step::Write {
                path: path.to_owned(),
                text: content(text)?,
                append: verb == "append",
            }
        }
        "shell" => Step::Shell(text(rest)?),
        "background" => Step::Background(text(rest)?),
        "commit" => Step::Commit(text(rest)?),
        "survivor" => {
            let (kind, file) = split(rest);
            let file = (!file.is_empty()).then(|| file.to_owned());
            Step::Survivor {
                kind: kind.to_owned(),
                file,
            }
        }
        "sleep" | "silence" => Step::Sleep(duration(rest)?),
        "hang" => Step::Hang,
        "mark" => Step::Mark(rest.to_owned()),
        "wait" => Step::Wait(rest.to_owned()),
        "result" => {
            let (name, rest) = split(rest);
            if crate::outcome::find(name).is_none() {
                return Err(format!("no outcome {name:?}"));
            }
            let text = (!rest.is_empty()).then(|| text(rest)).transpose()?;
            Step::Result {
                name: name.to_owned(),
                text,
            }
        }
        "exit" => Step::Exit(number(rest)?),
        "die" => Step::Die(rest.to_owned()),
        _ => return Err(format!("unknown verb {verb:?}")),
    })
}

fn condition(verb: &str, rest: &str) -> Option<Result<Step, String>> {
    let (word, after) = split(rest);
    Some(match verb {
        "if" | "unless" => parse(after).map(|step| Step::IfExists {
            path: word.to_owned(),
            exists: verb == "if",
            step: Box::new(step),
        }),
        "resumed" | "fresh" => parse(rest).map(|step| Step::IfResumed {
            resumed: verb == "resumed",
            step: Box::new(step),
        }),
        "paid" => parse(after).map(|step| Step::IfPaid {
            with: word.to_owned(),
            step: Box::new(step),
        }),
        _ => return None,
    })
}

fn setting(verb: &str, rest: &str) -> Option<Result<Step, String>> {
    Some(match verb {
        "startup" => duration(rest).map(Step::Startup),
        "no-init" => Ok(Step::NoInit),
        "record" => Ok(Step::Record(rest.to_owned())),
        "seed" => number(rest).map(Step::Seed),
        "price" => number(rest).map(Step::Price),
        "delay" => duration(rest).map(Step::Delay),
        "resets" => number(rest).map(Step::Resets),
        "window" => {
            let (kind, rest) = split(rest);
            let (used, seconds) = split(rest);
            number(used)
                .and_then(|used| Ok(Step::Window((kind.to_owned(), used, number(seconds)?))))
        }
        "retry-silence" => duration(rest).map(Step::RetrySilence),
        "structured" => json(rest).map(|(value, _)| Step::Structured(value)),
        "ignore" => Ok(Step::Ignore(
            rest.split_whitespace().map(str::to_owned).collect(),
        )),
        "slow" => duration(rest).map(Step::Slow),
        "anonymous" => Ok(Step::Anonymous),
        "startup-failure" => text(rest).map(Step::StartupFailure),
        "hook" => Ok(Step::Hook(rest.to_owned())),
        "stderr" => text(rest).map(Step::Stderr),
        "ledger" => {
            let (path, name) = split(rest);
            Ok(Step::Ledger {
                path: path.to_owned(),
                name: name.to_owned(),
            })
        }
        "note" => {
            let (path, rest) = split(rest);
            let (what, name) = split(rest);
            Ok(Step::Note {
                path: path.to_owned(),
                what: what.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => return None,
    })
}

fn transcript(verb: &str, rest: &str) -> Option<Result<Step, String>> {
    Some(match verb {
        "init" => Ok(Step::Init),
        "message" => Ok(Step::Message),
        "text" => text(rest).map(Step::Text),
        "thinking" => text(rest).map(Step::Thinking),
        "tool" | "tool-error" | "denied" => tool(verb, rest),
        "retry" => retry(rest),
        "rate-limit" => {
            let (status, kind) = split(rest);
            let kind = if kind.is_empty() { "five_hour" } else { kind };
            Ok(Step::RateLimit {
                status: status.to_owned(),
                kind: kind.to_owned(),
            })
        }
        "unknown" => Ok(Step::Unknown),
        "event" => Ok(Step::Event(rest.to_owned())),
        "raw" => text(rest).map(|text| Step::Raw(text.into_bytes())),
        "hex" => hex(rest).map(Step::Raw),
        "line" => {
            let (bytes, count) = split(rest);
            let count = if count.is_empty() { "1" } else { count };
            number(bytes).and_then(|bytes| {
                Ok(Step::Line {
                    bytes,
                    count: number(count)?,
                })
            })
        }
        "close-stdout" => Ok(Step::CloseStdout),
        _ => return None,
    })
}

fn tool(verb: &str, rest: &str) -> Result<Step, String> {
    let (name, rest) = split(rest);
    let (input, rest) = json(rest)?;
    let name = name.to_owned();
    if verb == "denied" {
        return Ok(Step::Denied { name, input });
    }
    Ok(Step::Tool {
        name,
        input,
        text: text(rest)?,
        is_error: verb == "tool-error",
    })
}

/// `COUNT STATUS ERROR`; the status `-` is a connection that failed.
fn retry(rest: &str) -> Result<Step, String> {
    let (count, rest) = split(rest);
    let (status, error) = split(rest);
    let status = match status {
        "" | "-" => None,
        status => Some(number(status)?),
    };
    let error = if error.is_empty() {
        "server_error"
    } else {
        error
    };
    Ok(Step::Retry {
        count: number(count)?,
        status,
        error: error.to_owned(),
    })
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

/// A JSON string, else the words as they stand.
fn text(rest: &str) -> Result<String, String> {
    if !rest.starts_with('"') {
        return Ok(rest.to_owned());
    }
    serde_json::from_str(rest).map_err(|error| format!("not a JSON string: {error}"))
}

/// A file's content: bare words get a line end, a JSON string is the content exactly.
fn content(rest: &str) -> Result<String, String> {
    let text = text(rest)?;
    Ok(if rest.starts_with('"') {
        text
    } else {
        text + "\n"
    })
}

/// The JSON value a text begins with, and what follows it.
fn json(rest: &str) -> Result<(Value, &str), String> {
    let mut stream = Deserializer::from_str(rest).into_iter::<Value>();
    match stream.next() {
        Some(Ok(value)) => Ok((value, rest[stream.byte_offset()..].trim())),
        Some(Err(error)) => Err(format!("not JSON: {error}")),
        None => Err("JSON is missing".into()),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("not a fitting number: {text:?}"))
}

/// `250` or `250ms`, `2s`, `1m`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(format!("not a duration: {text:?}")),
    };
    Ok(Duration::from_millis(
        number::<u64>(digits)?.saturating_mul(factor),
    ))
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: String = text.split_whitespace().collect();
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let pair = std::str::from_utf8(pair).unwrap_or_default();
            u8::from_str_radix(pair, 16).map_err(|_| format!("not hexadecimal: {pair:?}"))
        })
        .collect()
}
