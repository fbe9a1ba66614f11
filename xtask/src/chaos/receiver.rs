//! The receiver of callbacks, which writes down every one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use agent_tests::callback::verify;
use agent_tests::fault::{Fault, Faults};
use agent_tests::http_server::{HttpServer, Response};
use anyhow::Result;

/// The key callbacks are signed with.
pub(super) const SECRET: &str = "whsec_Y2hhb3Mgb2YgYWdlbnQtc2VydmVyLCAyNCBi";

/// One callback as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The `webhook-id`.
    pub(super) id: String,
    /// The status it says the job has.
    pub(super) status: String,
    /// Whether it was answered with success, so that it need not come again.
    pub(super) taken: bool,
}

#[derive(Debug, Default)]
struct Calls {
    by_job: BTreeMap<String, Vec<Call>>,
    forged: Vec<String>,
}

/// A running receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    server: HttpServer,
    faults: Faults,
    calls: Arc<Mutex<Calls>>,
}

impl Receiver {
    pub(super) fn start() -> Result<Self> {
        let (faults, calls) = (Faults::default(), Arc::<Mutex<Calls>>::default());
        let (due, seen) = (faults.clone(), Arc::clone(&calls));
        let server = HttpServer::start(move |request| {
            let mut taken = false;
            let answer = due.apply(|| {
                taken = true;
                Response::new(204)
            });
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match verify(&request, SECRET) {
                Ok(body) => {
                    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
                    let id = request.header("webhook-id").unwrap_or_default().to_owned();
                    let status = text("status");
                    let calls = seen.by_job.entry(text("jobId")).or_default();
                    calls.push(Call { id, status, taken });
                }
                Err(error) => seen.forged.push(format!("{error:#}")),
            }
            answer
        })?;
        Ok(Self {
            server,
            faults,
            calls,
        })
    }

    /// Where callbacks go.
    pub(super) fn url(&self) -> String {
        format!("{}/callback", self.server.url())
    }

    /// What happens to the next callbacks.
    pub(super) fn break_next(&self, count: usize, fault: &Fault) {
        self.faults.next(count, fault);
    }

    /// The callbacks of a job so far.
    pub(super) fn of(&self, job: &str) -> Vec<Call> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.by_job.get(job).cloned().unwrap_or_default()
    }

    /// What is wrong with callbacks whose signature does not fit.
    pub(super) fn forged(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.forged.clone()
    }
}
