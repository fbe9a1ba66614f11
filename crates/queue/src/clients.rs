//! Clients: list, create with their mirror, change, remove, bring up to date.

use std::sync::Arc;

use agent_domain::{Client, ClientChange, ClientId, NewClient};
use tokio::sync::Semaphore;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::once::{Begun, Once, Reply};
use crate::views::{ClientDetails, ClientView, CreatedClient, Synced};

/// Repositories brought up to date at the same time: enough to hide network latency, few enough
/// not to crowd out running jobs.
const SYNC_CONCURRENCY: usize = 4;

impl Engine {
    /// Lists all clients, oldest first.
    pub async fn clients(&self) -> Result<Vec<ClientView>, EngineError> {
        let clients = self.inner.store.clients().await?;
        Ok(clients
            .into_iter()
            .map(|client| self.view(client))
            .collect())
    }

    /// Returns a client with the numbers of its jobs.
    pub async fn client(&self, id: ClientId) -> Result<ClientDetails, EngineError> {
        let client = self
            .inner
            .store
            .client(id)
            .await?
            .ok_or(EngineError::ClientNotFound)?;
        let counts = self.inner.store.client_counts(id).await?;
        let ClientView {
            client,
            repo_exists,
        } = self.view(client);
        Ok(ClientDetails {
            client,
            repo_exists,
            counts,
        })
    }

    /// Creates a client and clones its repository, waiting for the clone for at most
    /// [`crate::EngineConfig::clone_wait`]; a longer clone goes on behind. At most once: a repeat
    /// after a crash waits for the clone of the client that the first request has made.
    pub async fn create_client_once(
        &self,
        new: NewClient,
        once: Option<Once<CreatedClient>>,
    ) -> Result<Reply<CreatedClient>, EngineError> {
        self.at_most_once(once, |engine, begun| async move {
            let client = engine.begin_client(new, begun.as_ref()).await?;
            let clone_error = engine.clone_for(&client).await;
            let created = CreatedClient {
                repo_cloned: engine.inner.mirrors.exists(&client.repo),
                clone_error,
                bare_repo_path: engine.inner.mirrors.path(&client.repo),
                client,
            };
            engine.remember_answer(begun.as_ref(), &created).await?;
            Ok(created)
        })
        .await
    }

    async fn begin_client(
        &self,
        new: NewClient,
        begun: Option<&Begun<CreatedClient>>,
    ) -> Result<Client, EngineError> {
        self.admit()?;
        if let Some(id) = begun.and_then(|begun| begun.unfinished.as_ref()) {
            let id = id.parse().map_err(|_| EngineError::ClientNotFound)?;
            let made = self.inner.store.client(id).await?;
            return made.ok_or(EngineError::ClientNotFound);
        }
        let now = self.inner.clock.now();
        let client = Client {
            id: ClientId::fresh(self.inner.ids.as_ref()),
            os_client_id: new.os_client_id,
            name: new.name,
            repo: new.repo,
            default_branch: new.default_branch,
            options: new.options,
            trusted: new.trusted,
            priority: new.priority,
            max_concurrent: new.max_concurrent,
            caps: new.caps,
            created_at: now,
            updated_at: now,
        };
        let store = &self.inner.store;
        match begun.map(|begun| begun.begun(&client.id, now)) {
            None => store.insert_client(client.clone()).await?,
            Some(once) => store.insert_client_once(client.clone(), once).await?,
        }
        Ok(client)
    }

    /// Changes a client.
    pub async fn update_client(
        &self,
        id: ClientId,
        change: ClientChange,
    ) -> Result<ClientView, EngineError> {
        let now = self.inner.clock.now();
        let client = self.inner.store.update_client(id, change, now).await?;
        // More of its jobs may run now.
        self.inner.ready.notify_waiters();
        Ok(self.view(client.ok_or(EngineError::ClientNotFound)?))
    }

    /// Removes a client from all lists; its ended jobs stay readable. Returns whether its mirror
    /// was removed too.
    pub async fn delete_client(
        &self,
        id: ClientId,
        remove_repo: bool,
    ) -> Result<bool, EngineError> {
        let client = self
            .inner
            .store
            .client(id)
            .await?
            .ok_or(EngineError::ClientNotFound)?;
        if !self
            .inner
            .store
            .delete_client(id, self.inner.clock.now())
            .await?
        {
            return Err(EngineError::ClientNotFound);
        }
        if !remove_repo {
            return Ok(false);
        }
        // The client is gone by now, so its mirror must go even if the caller hangs up.
        let mirrors = Arc::clone(&self.inner.mirrors);
        let removal = self.spawn(async move { mirrors.remove(&client.repo).await });
        match removal.await {
            Ok(Ok(removed)) => Ok(removed),
            Ok(Err(error)) => {
                tracing::warn!(client.id = %id, %error, "mirror not removed");
                Ok(false)
            }
            Err(_) => Err(EngineError::Interrupted),
        }
    }

    /// Brings the mirrors of all clients up to date; refused as new work is. At most once, save where the server dies
    /// before the end: then a repeat does it again, which does no harm.
    pub async fn sync_once(
        &self,
        once: Option<Once<Vec<Synced>>>,
    ) -> Result<Reply<Vec<Synced>>, EngineError> {
        self.at_most_once(once, |engine, begun| async move {
            engine.admit()?;
            let synced = engine.sync().await?;
            engine.remember_answer(begun.as_ref(), &synced).await?;
            Ok(synced)
        })
        .await
    }

    async fn sync(&self) -> Result<Vec<Synced>, EngineError> {
        let gate = Arc::new(Semaphore::new(SYNC_CONCURRENCY));
        let mut fetches = Vec::new();
        for client in self.inner.store.clients().await? {
            let (gate, mirrors) = (Arc::clone(&gate), Arc::clone(&self.inner.mirrors));
            fetches.push(self.spawn(async move {
                let _place = gate.acquire().await;
                let error = mirrors
                    .fetch(&client.repo)
                    .await
                    .err()
                    .map(|error| error.to_string());
                Synced {
                    repo: client.repo,
                    error,
                }
            }));
        }
        let mut synced = Vec::with_capacity(fetches.len());
        for fetch in fetches {
            match fetch.await {
                Ok(one) => synced.push(one),
                Err(error) => tracing::error!(%error, "a fetch ended abnormally"),
            }
        }
        Ok(synced)
    }

    fn view(&self, client: Client) -> ClientView {
        ClientView {
            repo_exists: self.inner.mirrors.exists(&client.repo),
            client,
        }
    }

    async fn clone_for(&self, client: &Client) -> Option<String> {
        let (mirrors, repo) = (Arc::clone(&self.inner.mirrors), client.repo.clone());
        let clone = self.spawn(async move {
            let result = mirrors.ensure(&repo).await;
            if let Err(error) = &result {
                tracing::warn!(client.repo = %repo, %error, "clone failed");
            }
            result
        });
        match tokio::time::timeout(self.inner.config.clone_wait, clone).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error.to_string()),
            Ok(Err(error)) => Some(format!("the clone ended abnormally: {error}")),
            Err(_) => Some("the clone takes longer and goes on in the background".to_owned()),
        }
    }
}
