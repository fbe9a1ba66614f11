//! From the wire to the domain: every field of a request is checked here, and named if refused.

mod options;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use actix_web::http::StatusCode;
use agent_client::wire::{self, CreateClient, CreateJob, Patch, UpdateClient};
use agent_domain::{
    AgentKey, BranchName, Caps, ClientChange, JobId, JobSecrets, JobSpec, JsonText, NewClient,
    Priority, RepoSlug, Secret, Status, TextError, Timestamp, Usd, limits, one_line, prompt,
};
use agent_queue::{JobFilter, Submission, Target};

use crate::path::parse_client_id;
use crate::problem::Problem;
use crate::query::Query;

/// Waiting jobs shown by `GET /queue` unless asked otherwise.
const QUEUE_DEFAULT: u32 = 100;

/// Reads the body of `POST /clients`.
pub(crate) fn new_client(mut body: CreateClient) -> Result<NewClient, Problem> {
    let options = options::checked(body.take_options())?;
    let default_branch = body.default_branch.as_deref().unwrap_or("main");
    Ok(NewClient {
        os_client_id: optional_text("osClientId", body.os_client_id, limits::NAME_CHARS)?,
        name: text("name", body.name, limits::NAME_CHARS)?,
        repo: repo(&body.github_org, &body.github_repo)?,
        default_branch: field("defaultBranch", default_branch)?,
        options,
        trusted: body.trusted.unwrap_or(false),
        priority: body.priority.map(priority).transpose()?.unwrap_or_default(),
        max_concurrent: body.max_concurrent.map(max_concurrent).transpose()?,
        caps: Caps {
            daily: cap("budgetDailyUsd", body.budget_daily_usd.as_ref())?,
            monthly: cap("budgetMonthlyUsd", body.budget_monthly_usd.as_ref())?,
        },
    })
}

fn cap(name: &str, amount: Option<&wire::Dollars>) -> Result<Option<Usd>, Problem> {
    amount
        .map(|amount| options::dollars(name, amount))
        .transpose()
}

/// Reads the body of `PATCH /clients/:id`.
pub(crate) fn client_change(mut body: UpdateClient) -> Result<ClientChange, Problem> {
    let options = options::changed(&mut body)?;
    let name = given("name", body.name)?;
    let branch = given("defaultBranch", body.default_branch)?;
    let trusted = given("trusted", body.trusted)?;
    let urgent = given("priority", body.priority)?;
    Ok(ClientChange {
        name: optional_text("name", name, limits::NAME_CHARS)?,
        default_branch: branch
            .map(|branch| field("defaultBranch", &branch))
            .transpose()?,
        options,
        trusted,
        priority: urgent.map(priority).transpose()?,
        max_concurrent: options::edit(&mut body.max_concurrent, max_concurrent)?,
        daily: options::cap("budgetDailyUsd", body.budget_daily_usd)?,
        monthly: options::cap("budgetMonthlyUsd", body.budget_monthly_usd)?,
    })
}

/// Reads the body of `POST /jobs`.
pub(crate) fn submission(mut body: CreateJob) -> Result<Submission, Problem> {
    let target = target(&body)?;
    prompt_given(&body.prompt)?;
    let callback = body
        .os_callback_url
        .as_deref()
        .map(callback_url)
        .transpose()?;
    let options = options::checked(body.take_options())?;
    let base = body.base.as_deref().map(|base| field("base", base));
    let not_before = body.not_before.as_deref().map(time).transpose()?;
    let metadata = body.metadata.map(metadata).transpose()?;
    let secrets = secrets(body.secrets)?;
    Ok(Submission {
        target,
        spec: JobSpec {
            branch: field::<BranchName>("branchName", &body.branch_name)?,
            title: optional_text("title", body.title, limits::TITLE_CHARS)?,
            os_feature_id: optional_text("osFeatureId", body.os_feature_id, limits::NAME_CHARS)?,
            callback_url: callback,
            base: base.transpose()?,
            metadata,
            options,
            secrets: secrets.kinds(),
            depends_on: depends_on(body.depends_on)?,
            prompt: body.prompt.into(),
        },
        priority: body.priority.map(priority).transpose()?,
        secrets,
        not_before,
    })
}

fn time(text: &str) -> Result<Timestamp, Problem> {
    let what = "must be a time in RFC 3339, such as 2026-01-31T08:00:00Z";
    text.parse().map_err(|_| Problem::field("notBefore", what))
}

fn metadata(object: wire::JsonObject) -> Result<JsonText, Problem> {
    let json = serde_json::Value::Object(object).to_string();
    if json.len() > limits::METADATA_BYTES {
        let what = format!("must be at most {} bytes", limits::METADATA_BYTES);
        return Err(Problem::field("metadata", what));
    }
    Ok(JsonText::new(json))
}

/// Reads the body of `PATCH /jobs/:id`.
pub(crate) fn job_change(body: wire::UpdateJob) -> Result<Priority, Problem> {
    priority(body.priority)
}

/// Checks a prompt.
pub(crate) fn prompt_given(given: &str) -> Result<(), Problem> {
    prompt(given).map_err(|error| match error {
        TextError::TooLong(_) => {
            let detail = format!("prompt {error}");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "prompt_too_large", detail).on("prompt")
        }
        TextError::Empty | TextError::Control => Problem::field("prompt", error),
    })
}

/// Reads `secrets` of `POST /jobs` and `POST /jobs/:id/retry`.
pub(crate) fn secrets(given: Option<wire::JobSecrets>) -> Result<JobSecrets, Problem> {
    let given = given.unwrap_or_default();
    let (key, token) = (given.anthropic_api_key, given.claude_code_oauth_token);
    let agent = match (key, token) {
        (None, None) => None,
        (Some(key), None) => Some(AgentKey::ApiKey(secret("anthropicApiKey", key)?)),
        (None, Some(token)) => Some(AgentKey::OauthToken(secret("claudeCodeOauthToken", token)?)),
        (Some(_), Some(_)) => {
            return Err(Problem::field(
                "secrets",
                "must have one of anthropicApiKey and claudeCodeOauthToken, not both",
            ));
        }
    };
    let git_token = given.git_token.map(|token| secret("gitToken", token));
    Ok(JobSecrets {
        agent,
        git_token: git_token.transpose()?,
    })
}

fn secret(name: &str, value: String) -> Result<Secret, Problem> {
    Secret::checked(value).map_err(|error| Problem::field(&format!("secrets.{name}"), error))
}

/// Reads the query of `GET /jobs`.
pub(crate) fn job_filter(query: &str) -> Result<JobFilter, Problem> {
    let query = Query::parse(query, &["status", "clientId", "limit", "offset", "before"])?;
    let filter = JobFilter {
        statuses: query
            .get("status")
            .map(statuses)
            .transpose()?
            .unwrap_or_default(),
        client_id: id(&query, "clientId")?,
        limit: query.number("limit", 1..=limits::PAGE_MAX, limits::PAGE_DEFAULT)?,
        offset: query.number("offset", 0..=limits::OFFSET_MAX, 0)?,
        before: id(&query, "before")?,
    };
    if filter.before.is_some() && filter.offset > 0 {
        return Err(Problem::parameter(
            "offset",
            "cannot be combined with before",
        ));
    }
    Ok(filter)
}

/// Reads the query of `GET /queue`.
pub(crate) fn queue_limit(query: &str) -> Result<u32, Problem> {
    let range: RangeInclusive<u32> = 1..=limits::PAGE_MAX;
    Query::parse(query, &["limit"])?.number("limit", range, QUEUE_DEFAULT)
}

fn target(body: &CreateJob) -> Result<Target, Problem> {
    match (&body.client_id, &body.github_org, &body.github_repo) {
        (Some(id), None, None) => Ok(Target::Client(
            parse_client_id(id).map_err(|error| Problem::from(error).on("clientId"))?,
        )),
        (None, Some(org), Some(name)) => Ok(Target::Repo(repo(org, name)?)),
        (Some(_), _, _) => Err(Problem::field(
            "clientId",
            "cannot be combined with githubOrg and githubRepo",
        )),
        (None, Some(_), None) => Err(Problem::missing(
            "githubRepo",
            "githubOrg needs githubRepo beside it",
        )),
        (None, None, Some(_)) => Err(Problem::missing(
            "githubOrg",
            "githubRepo needs githubOrg beside it",
        )),
        (None, None, None) => Err(Problem::missing(
            "clientId",
            "Either clientId, or githubOrg and githubRepo, must be given",
        )),
    }
}

fn repo(org: &str, repo: &str) -> Result<RepoSlug, Problem> {
    RepoSlug::check_part(org).map_err(|error| Problem::field("githubOrg", error))?;
    RepoSlug::new(org, repo).map_err(|error| Problem::field("githubRepo", error))
}

fn callback_url<T: FromStr<Err: Display>>(text: &str) -> Result<T, Problem> {
    let parsed = field("osCallbackUrl", text)?;
    // The domain checks the form without a parser of URLs; what no parser takes, no sender can.
    url::Url::parse(text)
        .map_err(|error| Problem::field("osCallbackUrl", format!("is not a URL: {error}")))?;
    Ok(parsed)
}

fn depends_on(ids: Option<Vec<String>>) -> Result<Vec<JobId>, Problem> {
    let ids = ids.unwrap_or_default();
    if ids.len() > limits::DEPENDENCIES {
        let what = format!("must not name more than {} jobs", limits::DEPENDENCIES);
        return Err(Problem::field("dependsOn", what));
    }
    let parse = |id: &String| {
        id.parse()
            .map_err(|_| Problem::field("dependsOn", format!("has {id:?}, which is not an id")))
    };
    let ids: BTreeSet<JobId> = ids.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(ids.into_iter().collect())
}

fn priority(value: i64) -> Result<Priority, Problem> {
    value
        .try_into()
        .map_err(|error| Problem::field("priority", error))
}

fn max_concurrent(value: u32) -> Result<u32, Problem> {
    let known = 1..=limits::CONCURRENT_MAX;
    if known.contains(&value) {
        Ok(value)
    } else {
        let what = format!("must be from 1 to {}", limits::CONCURRENT_MAX);
        Err(Problem::field("maxConcurrent", what))
    }
}

fn statuses(list: &str) -> Result<Vec<Status>, Problem> {
    let known = Status::ALL.map(Status::as_str).join(", ");
    list.split(',')
        .map(|name| {
            let what = || format!("has {name:?}; known are {known}");
            name.parse()
                .map_err(|_| Problem::parameter("status", what()))
        })
        .collect()
}

fn id<T: FromStr<Err: Display>>(query: &Query, name: &str) -> Result<Option<T>, Problem> {
    let parse = |text: &str| {
        text.parse()
            .map_err(|_| Problem::parameter(name, "is not an id"))
    };
    query.get(name).map(parse).transpose()
}

fn field<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|error| Problem::field(name, error))
}

fn text(name: &str, value: String, max_chars: usize) -> Result<String, Problem> {
    one_line(&value, max_chars).map_err(|error| Problem::field(name, error))?;
    Ok(value)
}

fn optional_text(
    name: &str,
    value: Option<String>,
    max_chars: usize,
) -> Result<Option<String>, Problem> {
    value.map(|value| text(name, value, max_chars)).transpose()
}

fn given<T>(name: &str, value: Patch<T>) -> Result<Option<T>, Problem> {
    match value {
        Patch::Absent => Ok(None),
        Patch::Null => Err(Problem::field(name, "must not be null")),
        Patch::Value(value) => Ok(Some(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> CreateJob {
        CreateJob {
            github_org: Some("o".into()),
            github_repo: Some("r".into()),
            prompt: "p".into(),
            branch_name: "b".into(),
            ..CreateJob::default()
        }
    }

    fn refused(body: CreateJob) -> String {
        submission(body).expect_err("refused").to_string()
    }

    #[test]
    fn a_title_is_data_and_arrives_as_it_is() {
        let title = "\"; rm -rf / #".to_owned();
        let body = CreateJob {
            title: Some(title.clone()),
            ..job()
        };
        assert_eq!(submission(body).unwrap().spec.title, Some(title));
    }

    #[test]
    fn a_job_is_for_one_client_or_one_repository() {
        let both = CreateJob {
            client_id: Some("0".repeat(32)),
            ..job()
        };
        assert!(refused(both).starts_with("clientId cannot be combined"));
        let half = CreateJob {
            github_repo: None,
            ..job()
        };
        assert!(refused(half).contains("githubRepo"));
        let none = CreateJob {
            github_org: None,
            github_repo: None,
            ..job()
        };
        assert!(refused(none).starts_with("Either clientId"));
        let junk = CreateJob {
            client_id: Some("x".into()),
            github_org: None,
            github_repo: None,
            ..job()
        };
        assert_eq!(refused(junk), "Client not found");
    }

    #[test]
    fn a_callback_goes_to_what_is_a_url() {
        for bad in [
            "ftp://a",
            "http://u:p@a/",
            "http://[::1",
            "http://a:99999/",
            "/x",
            "",
        ] {
            let body = CreateJob {
                os_callback_url: Some(bad.into()),
                ..job()
            };
            assert!(refused(body).starts_with("osCallbackUrl"), "{bad:?}");
        }
    }

    #[test]
    fn null_is_no_name_for_a_client() {
        let change = UpdateClient {
            name: Patch::Null,
            ..UpdateClient::default()
        };
        assert_eq!(
            client_change(change).unwrap_err().to_string(),
            "name must not be null"
        );
        assert_eq!(
            client_change(UpdateClient::default()).unwrap(),
            ClientChange::default()
        );
    }

    #[test]
    fn a_filter_has_the_specified_defaults() {
        let filter = job_filter("").unwrap();
        assert_eq!(
            (filter.limit, filter.offset, filter.statuses.len()),
            (50, 0, 0)
        );
        let filter = job_filter("status=queued,running&limit=500&offset=100000").unwrap();
        assert_eq!(filter.statuses, [Status::Queued, Status::Running]);
        for bad in [
            "status=",
            "status=done",
            "status=queued,,running",
            "status=Queued",
            "clientId=x",
            "before=x",
            "offset=100001",
            "before=00000000000000000000000000000000&offset=1",
        ] {
            assert!(job_filter(bad).is_err(), "{bad:?}");
        }
    }
}
