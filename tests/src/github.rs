//! A small GitHub: pull requests joined with real bare repositories.
//!
//! It knows the REST routes that opening and finding pull requests takes, checks what GitHub
//! checks (branches exist, there are commits between them, no second pull request for the same
//! pair), and answers errors in GitHub's shape. It looks at the repository with git, so what was
//! never pushed is not there.

mod problem;
mod pulls;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};

use crate::fault::{Fault, Faults};
use crate::http_server::{Answer, HttpServer, Request, Response};
use crate::repo::BareRepo;
use crate::tls::Certificate;
use pulls::Hosted;

/// Below which path GitHub Enterprise has its API.
const ENTERPRISE: &str = "/api/v3";

/// A running fake; dropping it stops it.
#[derive(Debug)]
pub struct GitHub {
    server: HttpServer,
    state: Arc<Mutex<State>>,
    faults: Faults,
}

#[derive(Debug)]
struct State {
    token: String,
    /// What stands before every path.
    prefix: &'static str,
    url: String,
    hosted: Vec<Hosted>,
    requests: Vec<Request>,
}

impl GitHub {
    /// Starts one that knows no repository and accepts one token.
    pub fn start(token: &str) -> Result<Self> {
        let (state, faults) = (State::new(token, ""), Faults::default());
        let server = HttpServer::start(handler(&state, &faults))?;
        lock(&state).url = server.url();
        Ok(Self {
            server,
            state,
            faults,
        })
    }

    /// Starts one as a company has it: at `https://localhost:PORT/api/v3`.
    pub fn start_enterprise(token: &str, certificate: &Certificate) -> Result<Self> {
        let (state, faults) = (State::new(token, ENTERPRISE), Faults::default());
        let server = HttpServer::start_tls(certificate, handler(&state, &faults))?;
        let port = server.address().port();
        lock(&state).url = format!("https://localhost:{port}{ENTERPRISE}");
        Ok(Self {
            server,
            state,
            faults,
        })
    }

    /// The base of its API.
    pub fn url(&self) -> String {
        lock(&self.state).url.clone()
    }

    /// `HOST:PORT` as `gh` knows it.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.server.address().port())
    }

    /// Makes a repository known.
    pub fn add(&self, repo: &BareRepo) {
        lock(&self.state).hosted.push(Hosted::new(repo.clone()));
    }

    /// Faults for the next requests.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Refuses the next `count` requests as GitHub does when it is asked too fast.
    pub fn limit_next(&self, count: usize, retry_after_seconds: u64) {
        let refusal = problem::secondary_limit(retry_after_seconds);
        self.faults.next(count, &Fault::Respond(refusal));
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }

    /// Every pull request of a repository, the oldest first, as the API shows it.
    pub fn pulls(&self, org: &str, name: &str) -> Vec<Value> {
        let state = lock(&self.state);
        let hosted = state.find(org, name);
        hosted.map_or_else(Vec::new, |hosted| {
            let pulls = hosted.pulls.iter();
            pulls.map(|pull| hosted.full(pull, &state.url)).collect()
        })
    }

    /// Every pull request from a branch, the oldest first, as lists show it.
    pub fn pulls_of(&self, org: &str, name: &str, branch: &str) -> Vec<Value> {
        let state = lock(&self.state);
        let hosted = state.find(org, name);
        hosted.map_or_else(Vec::new, |hosted| hosted.of_branch(branch, &state.url))
    }

    /// Closes a pull request without merging it; `false` when there is none of that number.
    pub fn close(&self, org: &str, name: &str, number: u64) -> bool {
        let mut state = lock(&self.state);
        let hosted = state.hosted.iter_mut().find(|hosted| hosted.is(org, name));
        let pull = hosted.and_then(|hosted| hosted.pull_mut(number));
        pull.is_some_and(|pull| std::mem::replace(&mut pull.open, false))
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers from `state`, but for the faults that are due.
fn handler(
    state: &Arc<Mutex<State>>,
    faults: &Faults,
) -> impl Fn(Request) -> Answer + Send + Sync + 'static {
    let (due, state) = (faults.clone(), Arc::clone(state));
    move |request| {
        lock(&state).requests.push(request.clone());
        due.apply(|| lock(&state).answer(&request))
    }
}

impl State {
    fn new(token: &str, prefix: &'static str) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            token: token.to_owned(),
            prefix,
            url: String::new(),
            hosted: Vec::new(),
            requests: Vec::new(),
        }))
    }

    fn find(&self, org: &str, name: &str) -> Option<&Hosted> {
        self.hosted.iter().find(|hosted| hosted.is(org, name))
    }

    fn answer(&mut self, request: &Request) -> Response {
        if request.header("user-agent").is_none_or(str::is_empty) {
            return problem::no_user_agent();
        }
        if let Err(refusal) = self.authorise(request) {
            return refusal;
        }
        let Some(target) = request.target.strip_prefix(self.prefix) else {
            return problem::not_found();
        };
        let request = &Request {
            target: target.to_owned(),
            ..request.clone()
        };
        let path = request.path();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["user"]) => Response::json(200, &json!({"login": "agent", "type": "User"})),
            (method, ["repos", org, name, rest @ ..]) => {
                let url = self.url.clone();
                let hosted = self.hosted.iter_mut().find(|hosted| hosted.is(org, name));
                hosted.map_or_else(problem::not_found, |hosted| {
                    hosted.route(method, rest, request, &url)
                })
            }
            _ => problem::not_found(),
        }
    }

    fn authorise(&self, request: &Request) -> Result<(), Response> {
        let Some(header) = request.header("authorization") else {
            return Err(problem::unauthorised("Requires authentication"));
        };
        let given = header
            .strip_prefix("Bearer ")
            .or_else(|| header.strip_prefix("token "));
        if given == Some(self.token.as_str()) {
            Ok(())
        } else {
            Err(problem::unauthorised("Bad credentials"))
        }
    }
}
