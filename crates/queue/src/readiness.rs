//! Whether new work would be taken now, check by check, for whoever spreads load or restarts
//! servers. Nothing in it is secret: who asks need not show a token.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Engine;

/// How old a look at the database may be: who asks need not show a token, so asking often must
/// not write often.
const PROBE_AGE: Duration = Duration::from_secs(2);
/// Longest wait for the database.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

/// Whether new work would be taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Every check by its name, with what is wrong.
    pub checks: Vec<(&'static str, Option<String>)>,
}

impl Readiness {
    /// Whether nothing is wrong.
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|(_, problem)| problem.is_none())
    }
}

/// When the database was last probed, and the code of what was wrong.
pub(crate) type Probe = tokio::sync::Mutex<Option<(Instant, Option<String>)>>;

impl Engine {
    /// Looks whether new work would be taken now.
    pub async fn readiness(&self) -> Readiness {
        let draining = self.is_draining().then(|| "shutting down".to_owned());
        let disk = self.inner.disk.shortage();
        let disk = disk.map(|short| format!("{}: {}", short.name, short.trouble));
        let unsettled = self.unsettled();
        let settled = (unsettled > 0).then(|| format!("{unsettled} interrupted jobs wait"));
        Readiness {
            checks: vec![
                ("accepting", draining),
                ("database", self.probe_database().await),
                ("disk", disk),
                ("settled", settled),
            ],
        }
    }

    async fn probe_database(&self) -> Option<String> {
        let mut probe = self.inner.probe.lock().await;
        if let Some((at, problem)) = probe.as_ref()
            && at.elapsed() < PROBE_AGE
        {
            return problem.clone();
        }
        let found = tokio::time::timeout(PROBE_WITHIN, self.inner.store.probe()).await;
        let problem = match found {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.code().to_owned()),
            Err(_) => Some("no answer".to_owned()),
        };
        *probe = Some((Instant::now(), problem.clone()));
        problem
    }
}
