//! The typed client: one method per route.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::Method;

use crate::error::ClientError;
use crate::log::LogReader;
use crate::transport::{Patience, Transport};
use crate::wire;

/// Nothing to send.
const NO_BODY: Option<&()> = None;

/// Where the server is, and how patient to be.
#[derive(Clone)]
pub struct Settings {
    /// Address, like `http://127.0.0.1:3456`; a path in it is kept.
    pub base_url: String,
    /// The server's `AGENT_API_SECRET`.
    pub token: String,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for a whole answer; for the first byte of it where the answer is a stream.
    pub timeout: Duration,
    /// The same for calls that wait for git or for a job's end.
    pub long_timeout: Duration,
}

impl Settings {
    /// Sets the usual timeouts.
    pub fn new(base_url: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            token: token.into(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            long_timeout: Duration::from_mins(10),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobQuery {
    /// Only these statuses; empty means all.
    pub statuses: Vec<String>,
    /// Only this client's.
    pub client_id: Option<String>,
    /// Page size.
    pub limit: Option<u32>,
    /// Leaving out so many.
    pub offset: Option<u32>,
    /// Only jobs older than this one: [`wire::JobList::next_cursor`] of the page before.
    pub before: Option<String>,
}

/// A blocking client of the native API; cheap to clone, its connections are shared.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
    timeout: Duration,
    long_timeout: Duration,
}

impl Client {
    /// Makes a client; no connection is made yet.
    pub fn new(settings: &Settings) -> Result<Self, ClientError> {
        let transport = Transport::new(
            &settings.base_url,
            &settings.token,
            settings.connect_timeout,
        )?;
        Ok(Self {
            transport,
            timeout: settings.timeout,
            long_timeout: settings.long_timeout,
        })
    }

    /// This client with an `Idempotency-Key` on each of its POSTs: however often the same call is
    /// made with it, also after a broken connection, it is done once and answered alike.
    ///
    /// Use one key for one call and its repeats; the server keeps answers for a day.
    pub fn once(&self, key: &str) -> Result<Self, ClientError> {
        Ok(Self {
            transport: self.transport.once(key)?,
            ..self.clone()
        })
    }

    /// The server's address.
    pub fn address(&self) -> &str {
        self.transport.address()
    }

    /// `GET /clients`.
    pub fn clients(&self) -> Result<wire::ClientList, ClientError> {
        self.get("/clients", &[])
    }

    /// `GET /clients/:id`.
    pub fn client(&self, id: &str) -> Result<wire::ClientDetails, ClientError> {
        self.get(&format!("/clients/{}", checked(id)?), &[])
    }

    /// `POST /clients`; waits for the clone, for a while.
    pub fn create_client(
        &self,
        client: &wire::CreateClient,
    ) -> Result<wire::ClientCreated, ClientError> {
        self.send(
            Method::POST,
            "/clients",
            &[],
            Some(client),
            self.long_timeout,
        )
    }

    /// `PATCH /clients/:id`.
    pub fn update_client(
        &self,
        id: &str,
        change: &wire::UpdateClient,
    ) -> Result<wire::ClientSummary, ClientError> {
        let path = format!("/clients/{}", checked(id)?);
        self.send(Method::PATCH, &path, &[], Some(change), self.timeout)
    }

    /// `DELETE /clients/:id`.
    pub fn delete_client(
        &self,
        id: &str,
        remove_repo: bool,
    ) -> Result<wire::ClientDeleted, ClientError> {
        let path = format!("/clients/{}", checked(id)?);
        let query = flag("removeRepo", remove_repo);
        self.send(Method::DELETE, &path, &query, NO_BODY, self.long_timeout)
    }

    /// `GET /jobs`.
    pub fn jobs(&self, query: &JobQuery) -> Result<wire::JobList, ClientError> {
        self.get("/jobs", &query.pairs())
    }

    /// `GET /jobs/:id`, without messages.
    pub fn job(&self, id: &str) -> Result<wire::JobDetails, ClientError> {
        self.get(&format!("/jobs/{}", checked(id)?), &[])
    }

    /// `GET /jobs/:id` with all messages, readable or `raw`; they are held in memory, so for a
    /// long log prefer [`Client::log`].
    pub fn job_with_messages(&self, id: &str, raw: bool) -> Result<wire::JobDetails, ClientError> {
        let path = format!("/jobs/{}", checked(id)?);
        let mut query = flag("includeMessages", true);
        query.extend(flag("raw", raw));
        let url = self.transport.url(&path, &query);
        let patience = Patience::Streaming(self.timeout);
        let response = self
            .transport
            .exchange(Method::GET, &url, NO_BODY, patience)?;
        self.transport.read_json(response)
    }

    /// `POST /jobs`.
    pub fn create_job(&self, job: &wire::CreateJob) -> Result<wire::JobCreated, ClientError> {
        self.send(Method::POST, "/jobs", &[], Some(job), self.timeout)
    }

    /// `PATCH /jobs/:id`.
    pub fn update_job(
        &self,
        id: &str,
        change: &wire::UpdateJob,
    ) -> Result<wire::JobDetails, ClientError> {
        let path = format!("/jobs/{}", checked(id)?);
        self.send(Method::PATCH, &path, &[], Some(change), self.timeout)
    }

    /// `POST /jobs/:id/cancel`; with `wait`, returns when the job's last process is gone.
    pub fn cancel(&self, id: &str, wait: bool) -> Result<wire::Cancelled, ClientError> {
        let path = format!("/jobs/{}/cancel", checked(id)?);
        let query = if wait {
            vec![]
        } else {
            vec![("wait", "false".into())]
        };
        self.send(Method::POST, &path, &query, NO_BODY, self.long_timeout)
    }

    /// `POST /jobs/:id/messages`.
    pub fn message(
        &self,
        id: &str,
        message: &wire::CreateMessage,
    ) -> Result<wire::JobContinued, ClientError> {
        let path = format!("/jobs/{}/messages", checked(id)?);
        self.send(Method::POST, &path, &[], Some(message), self.timeout)
    }

    /// `POST /jobs/:id/release`.
    pub fn release(&self, id: &str) -> Result<wire::Released, ClientError> {
        let path = format!("/jobs/{}/release", checked(id)?);
        self.send(Method::POST, &path, &[], NO_BODY, self.timeout)
    }

    /// `GET /credentials`.
    pub fn credentials(&self) -> Result<wire::CredentialList, ClientError> {
        self.get("/credentials", &[])
    }

    /// `POST /credentials/:name/resume`.
    pub fn resume_credential(&self, name: &str) -> Result<wire::Credential, ClientError> {
        let path = format!("/credentials/{}/resume", checked(name)?);
        self.send(Method::POST, &path, &[], NO_BODY, self.timeout)
    }

    /// `POST /jobs/:id/retry`.
    pub fn retry(&self, id: &str) -> Result<wire::JobRetried, ClientError> {
        self.retry_with(id, &wire::RetryJob::default())
    }

    /// `POST /jobs/:id/retry` of a job that brought keys of its own.
    pub fn retry_with(
        &self,
        id: &str,
        retry: &wire::RetryJob,
    ) -> Result<wire::JobRetried, ClientError> {
        let path = format!("/jobs/{}/retry", checked(id)?);
        self.send(Method::POST, &path, &[], Some(retry), self.timeout)
    }

    /// `GET /jobs/:id/history`.
    pub fn history(&self, id: &str) -> Result<wire::JobHistory, ClientError> {
        self.get(&format!("/jobs/{}/history", checked(id)?), &[])
    }

    /// `GET /jobs/:id/deliveries`.
    pub fn deliveries(&self, id: &str) -> Result<wire::DeliveryList, ClientError> {
        self.get(&format!("/jobs/{}/deliveries", checked(id)?), &[])
    }

    /// `POST /jobs/:id/deliveries/:deliveryId/redeliver`.
    pub fn redeliver(&self, id: &str, delivery: &str) -> Result<wire::Redelivered, ClientError> {
        let (id, delivery) = (checked(id)?, checked(delivery)?);
        let path = format!("/jobs/{id}/deliveries/{delivery}/redeliver");
        self.send(Method::POST, &path, &[], NO_BODY, self.timeout)
    }

    /// `GET /jobs/:id/log`: the raw log from `offset` on; with `follow`, until the job has ended.
    pub fn log(&self, id: &str, offset: u64, follow: bool) -> Result<LogReader, ClientError> {
        let mut query = flag("follow", follow);
        if offset > 0 {
            query.push(("offset", offset.to_string()));
        }
        let url = self
            .transport
            .url(&format!("/jobs/{}/log", checked(id)?), &query);
        let patience = Patience::Streaming(self.timeout);
        let response = self
            .transport
            .exchange(Method::GET, &url, NO_BODY, patience)?;
        let reader = response
            .into_body()
            .into_with_config()
            .limit(u64::MAX)
            .reader();
        Ok(LogReader::new(reader, offset))
    }

    /// `GET /jobs/:id/events`: at least `limit` events from `after` on, if there are so many; 0, then
    /// each page's `next`.
    pub fn events(&self, id: &str, after: u64, limit: u32) -> Result<wire::EventPage, ClientError> {
        let query = [("after", after.to_string()), ("limit", limit.to_string())];
        self.get(&format!("/jobs/{}/events", checked(id)?), &query)
    }

    /// `GET /health`.
    pub fn health(&self) -> Result<wire::Health, ClientError> {
        self.get("/health", &[])
    }

    /// `GET /queue`, with at most `limit` waiting jobs.
    pub fn queue(&self, limit: Option<u32>) -> Result<wire::QueueView, ClientError> {
        let query: Vec<_> = limit
            .iter()
            .map(|limit| ("limit", limit.to_string()))
            .collect();
        self.get("/queue", &query)
    }

    /// `GET /usage` with these parameters.
    pub fn usage(&self, query: &[(&str, String)]) -> Result<wire::UsageReport, ClientError> {
        self.get("/usage", query)
    }

    /// `POST /sync`.
    pub fn sync(&self) -> Result<wire::SyncResult, ClientError> {
        self.send(Method::POST, "/sync", &[], NO_BODY, self.long_timeout)
    }

    fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        self.send(Method::GET, path, query, NO_BODY, self.timeout)
    }

    fn send<B: serde::Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&B>,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let url = self.transport.url(path, query);
        let response = self
            .transport
            .exchange(method, &url, body, Patience::Whole(limit))?;
        self.transport.read_json(response)
    }
}

impl JobQuery {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        if !self.statuses.is_empty() {
            pairs.push(("status", self.statuses.join(",")));
        }
        pairs.extend(self.client_id.iter().map(|id| ("clientId", id.clone())));
        pairs.extend(self.limit.iter().map(|limit| ("limit", limit.to_string())));
        pairs.extend(
            self.offset
                .iter()
                .map(|offset| ("offset", offset.to_string())),
        );
        pairs.extend(self.before.iter().map(|before| ("before", before.clone())));
        pairs
    }
}

fn flag(name: &'static str, on: bool) -> Vec<(&'static str, String)> {
    if on {
        vec![(name, "true".into())]
    } else {
        vec![]
    }
}

/// Accepts a text that stays one part of a path whatever it is: `..` would name another resource.
fn checked(id: &str) -> Result<&str, ClientError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if id.is_empty() || id.len() > 100 || !id.bytes().all(legal) {
        return Err(ClientError::Id(id.to_owned()));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_would_change_the_path_is_no_id() {
        for bad in ["", ".", "..", "a/b", "a?b", "a#b", "a%2fb", "é", "a b"] {
            assert!(matches!(checked(bad), Err(ClientError::Id(_))), "{bad:?}");
        }
        assert!(checked("0123456789abcdef0123456789abcdef").is_ok());
        assert!(checked("job-xyz_1").is_ok());
    }

    #[test]
    fn debug_output_of_settings_hides_the_token() {
        let settings = Settings::new("http://a", "hunter2-hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
