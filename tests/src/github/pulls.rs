//! One hosted repository and its pull requests.

use anyhow::Result;
use serde_json::{Value, json};

use super::problem;
use crate::http_server::{Request, Response};
use crate::repo::BareRepo;

/// Every object here was made at this time.
const CREATED: &str = "2026-01-02T03:04:05Z";
/// Page size where none is asked for, as GitHub's.
const PER_PAGE: usize = 30;
/// Largest page size, as GitHub's.
const MAX_PER_PAGE: usize = 100;

#[derive(Debug)]
pub(super) struct Hosted {
    repo: BareRepo,
    pub(super) pulls: Vec<Pull>,
}

#[derive(Debug, Clone)]
pub(super) struct Pull {
    number: u64,
    title: String,
    body: Option<String>,
    head: String,
    base: String,
    head_sha: String,
    base_sha: String,
    draft: bool,
    pub(super) labels: Vec<String>,
    pub(super) open: bool,
}

impl Hosted {
    pub(super) fn new(repo: BareRepo) -> Self {
        Self {
            repo,
            pulls: Vec::new(),
        }
    }

    pub(super) fn is(&self, org: &str, name: &str) -> bool {
        self.repo.org().eq_ignore_ascii_case(org) && self.repo.name().eq_ignore_ascii_case(name)
    }

    pub(super) fn pull_mut(&mut self, number: u64) -> Option<&mut Pull> {
        self.pulls.iter_mut().find(|pull| pull.number == number)
    }

    pub(super) fn route(
        &mut self,
        method: &str,
        rest: &[&str],
        request: &Request,
        url: &str,
    ) -> Response {
        match (method, rest) {
            ("GET", []) => Response::json(200, &self.summary(url)),
            ("GET", ["pulls"]) => self.list(request, url),
            ("POST", ["pulls"]) => self.create(request, url),
            ("GET", ["pulls", number]) => self.with(number, |pull| Ok(self.full(pull, url))),
            ("POST", ["issues", number, "labels"]) => self.label(number, request),
            ("GET", ["pulls", number, "files"]) => match self.by_number(number) {
                Some(pull) => match self.changed(pull) {
                    Ok(files) => page(files, request, url),
                    Err(error) => problem::broken(&format!("{error:#}")),
                },
                None => problem::not_found(),
            },
            _ => problem::not_found(),
        }
    }

    fn label(&mut self, number: &str, request: &Request) -> Response {
        let body = request.json().unwrap_or_default();
        let labels = body["labels"].as_array().into_iter().flatten();
        let labels: Vec<String> = labels
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect();
        match number.parse().ok().and_then(|number| self.pull_mut(number)) {
            Some(pull) => {
                pull.labels.extend(labels);
                let shown: Vec<Value> = pull
                    .labels
                    .iter()
                    .map(|name| json!({"name": name}))
                    .collect();
                Response::json(200, &json!(shown))
            }
            None => problem::not_found(),
        }
    }

    fn by_number(&self, number: &str) -> Option<&Pull> {
        let number: u64 = number.parse().ok()?;
        self.pulls.iter().find(|pull| pull.number == number)
    }

    fn with(&self, number: &str, show: impl FnOnce(&Pull) -> Result<Value>) -> Response {
        match self.by_number(number).map(show) {
            Some(Ok(body)) => Response::json(200, &body),
            Some(Err(error)) => problem::broken(&format!("{error:#}")),
            None => problem::not_found(),
        }
    }

    fn list(&self, request: &Request, url: &str) -> Response {
        let state = request.parameter("state").unwrap_or_else(|| "open".into());
        let base = request.parameter("base");
        // Without an owner and a colon GitHub ignores the filter.
        let head = request.parameter("head").and_then(|head| {
            head.split_once(':')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
        });
        let found = self.pulls.iter().rev().filter(|pull| {
            let by_state = state == "all" || (state == "open") == pull.open;
            let by_base = base.as_ref().is_none_or(|base| *base == pull.base);
            let by_head = head.as_ref().is_none_or(|(org, branch)| {
                self.repo.org().eq_ignore_ascii_case(org) && *branch == pull.head
            });
            by_state && by_base && by_head
        });
        page(
            found.map(|pull| self.brief(pull, url)).collect(),
            request,
            url,
        )
    }

    fn create(&mut self, request: &Request, url: &str) -> Response {
        match self.check(request) {
            Ok(pull) => {
                let body = self.full(&pull, url);
                self.pulls.push(pull);
                let location = body["url"].as_str().unwrap_or_default().to_owned();
                Response::json(201, &body).header("location", &location)
            }
            Err(refusal) => refusal,
        }
    }

    fn check(&self, request: &Request) -> Result<Pull, Response> {
        let body = request.json().ok_or_else(problem::bad_json)?;
        let text = |name: &str| {
            let text = body[name].as_str().filter(|text| !text.is_empty());
            text.ok_or_else(|| problem::field(name, "missing_field"))
        };
        let (title, head, base) = (text("title")?, text("head")?, text("base")?);
        let (owner, branch) = head.split_once(':').unwrap_or((self.repo.org(), head));
        let head_sha = self
            .repo
            .rev(branch)
            .filter(|_| owner.eq_ignore_ascii_case(self.repo.org()))
            .ok_or_else(|| problem::field("head", "invalid"))?;
        let base_sha = self
            .repo
            .rev(base)
            .ok_or_else(|| problem::field("base", "invalid"))?;
        if self.repo.ahead(base, branch).unwrap_or(0) == 0 {
            let message = format!("No commits between {base} and {branch}");
            return Err(problem::custom(&message));
        }
        let same = |pull: &&Pull| pull.open && pull.head == branch && pull.base == base;
        if self.pulls.iter().any(|pull| same(&pull)) {
            let org = self.repo.org();
            let message = format!("A pull request already exists for {org}:{branch}.");
            return Err(problem::custom(&message));
        }
        Ok(Pull {
            number: self.pulls.len() as u64 + 1,
            title: title.to_owned(),
            body: body["body"].as_str().map(str::to_owned),
            head: branch.to_owned(),
            base: base.to_owned(),
            head_sha,
            base_sha,
            draft: body["draft"].as_bool().unwrap_or(false),
            labels: Vec::new(),
            open: true,
        })
    }

    /// Every pull request from a branch, as lists show it.
    pub(super) fn of_branch(&self, branch: &str, url: &str) -> Vec<Value> {
        let of_branch = self.pulls.iter().filter(|pull| pull.head == branch);
        of_branch.map(|pull| self.brief(pull, url)).collect()
    }

    /// What lists show.
    fn brief(&self, pull: &Pull, url: &str) -> Value {
        let (org, name) = (self.repo.org(), self.repo.name());
        let side = |branch: &str, sha: &str| {
            json!({
                "label": format!("{org}:{branch}"), "ref": branch, "sha": sha,
                "user": {"login": org}, "repo": {"full_name": format!("{org}/{name}")},
            })
        };
        let number = pull.number;
        let html = format!("https://github.com/{org}/{name}/pull/{number}");
        json!({
            "id": 1_000_000 + number, "number": number, "locked": false,
            "state": if pull.open { "open" } else { "closed" },
            "url": format!("{url}/repos/{org}/{name}/pulls/{number}"),
            "html_url": html, "diff_url": format!("{html}.diff"),
            "title": pull.title, "body": pull.body, "draft": pull.draft, "labels": pull.labels,
            "user": {"login": "agent"}, "created_at": CREATED, "updated_at": CREATED,
            "closed_at": null, "merged_at": null,
            "head": side(&pull.head, &self.repo.rev(&pull.head).unwrap_or_else(|| pull.head_sha.clone())),
            "base": side(&pull.base, &pull.base_sha),
        })
    }

    /// What a single pull request shows: the list's fields and counts.
    pub(super) fn full(&self, pull: &Pull, url: &str) -> Value {
        let mut body = self.brief(pull, url);
        let files = self.changed(pull).unwrap_or_default();
        let sum = |field: &str| {
            files
                .iter()
                .filter_map(|file| file[field].as_u64())
                .sum::<u64>()
        };
        body["changed_files"] = json!(files.len());
        body["additions"] = json!(sum("additions"));
        body["deletions"] = json!(sum("deletions"));
        body["commits"] = json!(self.repo.ahead(&pull.base, &pull.head).unwrap_or(0));
        body["merged"] = json!(false);
        body["mergeable"] = Value::Null;
        body
    }

    /// The files between the merge base and the head, as git counts them.
    fn changed(&self, pull: &Pull) -> Result<Vec<Value>> {
        let range = format!("refs/heads/{}...refs/heads/{}", pull.base, pull.head);
        let status = self
            .repo
            .git(&["diff", "--name-status", "-M", "-z", &range])?;
        let counts = self.repo.git(&["diff", "--numstat", "-M", "-z", &range])?;
        let counts = numstat(&counts);
        let mut words = status.split('\0').filter(|word| !word.is_empty());
        let mut files = Vec::new();
        while let (Some(kind), Some(first)) = (words.next(), words.next()) {
            let (name, word) = match kind.as_bytes().first() {
                Some(b'R') => (words.next().unwrap_or(first), "renamed"),
                Some(b'A') => (first, "added"),
                Some(b'D') => (first, "removed"),
                _ => (first, "modified"),
            };
            let (additions, deletions) = counts
                .iter()
                .find(|(path, ..)| path == name)
                .map_or((0, 0), |(_, added, removed)| (*added, *removed));
            files.push(json!({
                "filename": name, "status": word, "additions": additions,
                "deletions": deletions, "changes": additions + deletions,
            }));
        }
        Ok(files)
    }

    fn summary(&self, url: &str) -> Value {
        let (org, name) = (self.repo.org(), self.repo.name());
        json!({
            "id": 1, "name": name, "full_name": format!("{org}/{name}"), "private": true,
            "url": format!("{url}/repos/{org}/{name}"),
            "html_url": format!("https://github.com/{org}/{name}"),
            "default_branch": "main", "owner": {"login": org},
            "permissions": {"admin": false, "push": true, "pull": true},
        })
    }
}

/// Path, lines added and lines removed; a rename has its two names in fields of their own.
fn numstat(text: &str) -> Vec<(String, u64, u64)> {
    let mut fields = text.split('\0').filter(|field| !field.is_empty());
    let mut out = Vec::new();
    while let Some(field) = fields.next() {
        let mut columns = field.splitn(3, '\t');
        let mut number = || columns.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let (added, removed) = (number(), number());
        let path = match columns.next() {
            Some("") | None => {
                fields.next();
                fields.next().unwrap_or_default()
            }
            Some(path) => path,
        };
        out.push((path.to_owned(), added, removed));
    }
    out
}

/// One page of a list, with a link to the next where there is one.
fn page(items: Vec<Value>, request: &Request, url: &str) -> Response {
    let number = |name: &str| request.parameter(name)?.parse::<usize>().ok();
    let size = number("per_page")
        .unwrap_or(PER_PAGE)
        .clamp(1, MAX_PER_PAGE);
    let page = number("page").unwrap_or(1).max(1);
    let more = items.len() > page * size;
    let shown: Vec<Value> = items
        .into_iter()
        .skip((page - 1) * size)
        .take(size)
        .collect();
    let response = Response::json(200, &Value::Array(shown));
    if !more {
        return response;
    }
    let kept = request
        .query()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("page="));
    let query: Vec<&str> = kept.collect();
    let link = format!(
        "<{url}{}?{}&page={}>; rel=\"next\"",
        request.path(),
        query.join("&"),
        page + 1
    );
    response.header("link", &link)
}
