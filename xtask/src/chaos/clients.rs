//! The clients: they submit, cancel, retry and read, and write down what they were promised.

use std::sync::RwLock;
use std::time::{Duration, Instant};

use agent_tests::client::{JsonClient, Reply};
use agent_tests::server::SECRET;
use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::book::{Book, Entry};
use super::kinds::Kind;
use super::plan::{Act, PlannedJob};

/// How long a client goes on trying to get an answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// What all clients need.
#[derive(Debug)]
pub(super) struct Clients<'a> {
    pub(super) url: &'a RwLock<String>,
    pub(super) book: &'a Book,
    pub(super) jobs: &'a [PlannedJob],
    /// The body of each job's submission.
    pub(super) bodies: Vec<Value>,
}

/// A client that talks to wherever the server listens now.
pub(super) fn client(url: &RwLock<String>) -> JsonClient {
    let url = url.read().map(|url| url.clone()).unwrap_or_default();
    JsonClient::new(&url, Some(SECRET))
}

/// Lets everything go on that waits for the usage limit.
pub(super) fn resume(url: &RwLock<String>) {
    // While the server is away there is nobody to be told.
    client(url)
        .post("/credentials/default/resume", &json!({}))
        .ok();
}

impl Clients<'_> {
    /// Does every `step`th act from `first` on, each at its time.
    pub(super) fn work(&self, began: Instant, acts: &[(u64, Act)], first: usize, step: usize) {
        for (at, act) in acts.iter().skip(first).step_by(step) {
            let left = Duration::from_millis(*at).saturating_sub(began.elapsed());
            std::thread::sleep(left);
            self.act(*act);
        }
    }

    /// Does one thing now.
    pub(super) fn act(&self, act: Act) {
        match act {
            Act::Submit(number) => self.submit(number),
            Act::Cancel(number, wait) => self.cancel(number, wait),
            Act::Retry(number) => self.retry(number),
            Act::Follow(number) => self.follow(number),
            Act::Messages(number) => {
                if let Some(id) = self.id(number) {
                    self.read(&format!("/jobs/{id}?includeMessages=true"));
                }
            }
            Act::Resume => resume(self.url),
            Act::Lists => {
                for path in ["/jobs?limit=20", "/queue", "/health", "/clients"] {
                    self.read(path);
                }
            }
        }
    }

    fn id(&self, number: usize) -> Option<String> {
        self.book.entry(number)?.id
    }

    fn name(&self, number: usize) -> String {
        self.book
            .entry(number)
            .map(|entry| entry.name)
            .unwrap_or_default()
    }

    /// Without a key, and without an answer, nobody can know whether there is a job: whoever
    /// counts the jobs at the end finds out. With a key it is safe to ask again.
    fn submit(&self, number: usize) {
        let (Some(job), Some(body)) = (self.jobs.get(number), self.bodies.get(number)) else {
            return;
        };
        let name = self.name(number);
        let key = job.keyed.then(|| format!("key-{name}"));
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.post("/jobs", key.as_deref(), body) {
                Ok(reply) if reply.status == 201 => return self.promised(number, &reply),
                Ok(reply) if code(&reply) == "branch_exists" => {
                    return self.book.say(format!("{name}: an earlier try has arrived"));
                }
                Ok(reply) if is_later(&reply) => {}
                Ok(reply) => return self.refused(&format!("{name}: POST /jobs"), &reply),
                Err(_) if key.is_none() => {
                    return self
                        .book
                        .say(format!("{name}: submitted without an answer"));
                }
                Err(_) => {}
            }
            std::thread::sleep(PAUSE);
        }
        self.book.say(format!("{name}: never got an answer"));
    }

    fn promised(&self, number: usize, reply: &Reply) {
        let id = reply.json()["id"].as_str().map(str::to_owned);
        self.book.with(number, |entry| {
            entry.acknowledged = true;
            entry.id.clone_from(&id);
        });
        let (name, id) = (self.name(number), id.unwrap_or_default());
        self.book.say(format!("{name}: acknowledged as {id}"));
    }

    fn cancel(&self, number: usize, wait: bool) {
        let Some(id) = self.id(number) else { return };
        let name = self.name(number);
        self.book.with(number, |entry| entry.cancelled = true);
        let query = if wait { "" } else { "?wait=false" };
        let reply = self.post(&format!("/jobs/{id}/cancel{query}"), None, &json!({}));
        let said = match &reply {
            Ok(reply) => format!("{} {}", reply.status, reply.text()),
            Err(_) => "no answer".to_owned(),
        };
        self.book
            .say(format!("{name}: cancel{query} of {id}: {said}"));
        if let Ok(reply) = reply
            && !matches!(reply.status, 200 | 202)
            && code(&reply) != "job_ended"
            && !is_later(&reply)
        {
            self.refused(&format!("{name}: cancel"), &reply);
        }
    }

    fn retry(&self, number: usize) {
        let (Some(entry), Some(job)) = (self.book.entry(number), self.jobs.get(number)) else {
            return;
        };
        let Some(id) = &entry.id else { return };
        self.book.with(number, |entry| entry.retries += 1);
        let key = job
            .keyed
            .then(|| format!("retry-{}-{}", entry.name, entry.retries));
        let path = format!("/jobs/{id}/retry");
        let mut reply = self.post(&path, key.as_deref(), &json!({}));
        let until = Instant::now() + PATIENCE;
        // With a key it is safe to ask again.
        while key.is_some() && reply.is_err() && Instant::now() < until {
            std::thread::sleep(PAUSE);
            reply = self.post(&path, key.as_deref(), &json!({}));
        }
        match reply {
            Ok(reply) if reply.status == 201 => self.repeated(&entry, &reply),
            Ok(reply) => {
                // After a failure inside the server nobody knows; any other answer changed nothing.
                if reply.status != 500 {
                    self.book.with(number, |entry| entry.retries -= 1);
                }
                if code(&reply) != "job_unfinished" && !is_later(&reply) {
                    self.refused(&format!("{}: retry", entry.name), &reply);
                }
            }
            Err(_) => {
                let name = &entry.name;
                self.book
                    .say(format!("{name}: retry of {id} without an answer"));
            }
        }
    }

    fn repeated(&self, first: &Entry, reply: &Reply) {
        let made = reply.json();
        let text = |field: &str| made[field].as_str().map(str::to_owned);
        let (id, new) = (first.id.clone().unwrap_or_default(), text("id"));
        let shown = new.clone().unwrap_or_default();
        self.book
            .say(format!("{}: {id} repeated as {shown}", first.name));
        self.book.add(Entry {
            id: new,
            branch: text("branchName").unwrap_or_default(),
            acknowledged: true,
            cancelled: false,
            retries: 0,
            ..first.clone()
        });
    }

    /// Reads what the log has got since the last time.
    fn follow(&self, number: usize) {
        let Some(id) = self.id(number) else { return };
        let offset = self.book.read_so_far(&id);
        let path = format!("/jobs/{id}/log?offset={offset}");
        let Ok(reply) = client(self.url).get(&path) else {
            return;
        };
        if reply.status == 200 {
            self.book.append_read(&id, offset, &reply.body);
        } else if !is_later(&reply) {
            self.refused(&path, &reply);
        }
    }

    fn read(&self, path: &str) {
        if let Ok(reply) = client(self.url).get(path)
            && reply.status != 200
            && !is_later(&reply)
        {
            self.refused(path, &reply);
        }
    }

    fn post(&self, path: &str, key: Option<&str>, body: &Value) -> Result<Reply> {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let body = body.to_string().into_bytes();
        client(self.url).send(Method::POST, path, &headers, body)
    }

    fn refused(&self, what: &str, reply: &Reply) {
        let (status, text) = (reply.status, reply.text());
        self.book.bad_answer(format!("{what}: {status} {text}"));
    }
}

/// The fields of a submission.
pub(super) fn body(
    kind: Kind,
    (org, repo): (&str, &str),
    branch: &str,
    prompt: &str,
    callback: Option<String>,
) -> Value {
    let mut body = json!({
        "githubOrg": org, "githubRepo": repo, "branchName": branch, "prompt": prompt,
    });
    if let Some(url) = callback {
        body["osCallbackUrl"] = json!(url);
    }
    if let Some((field, seconds)) = kind.limits() {
        body[field] = json!(seconds);
    }
    body
}

fn code(reply: &Reply) -> String {
    reply.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// Whether the server says that it cannot now; a client asks again.
fn is_later(reply: &Reply) -> bool {
    reply.status == 503 || reply.status == 500 || code(reply) == "idempotency_in_flight"
}
