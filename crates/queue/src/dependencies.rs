//! Lets a job begin when all the jobs are completed that it waits for, and fails it when one ends
//! otherwise.
//!
//! How a job ended is noted for those who wait for it in the transaction that ends it. What that means
//! for them is seen to here, right after, and again until it is noted as done; doing it twice does
//! nothing, since a job that waits no longer refuses it.

use std::time::Duration;

use agent_domain::Event;

use crate::engine::Engine;
use crate::error::EngineError;

/// How many waiting jobs are seen to in one transaction.
const TOGETHER: u32 = 200;
/// How often is looked although nothing was announced.
const PERIOD: Duration = Duration::from_mins(1);

/// Runs until the engine stops.
pub(crate) async fn settle(engine: Engine) {
    let stopped = engine.inner.stop.clone();
    let settling = async {
        loop {
            match settle_some(&engine).await {
                Ok(0) => {}
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(%error, "jobs that wait for others were not seen to");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            }
            tokio::select! {
                () = engine.inner.dependencies.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    };
    tokio::select! {
        () = stopped.cancelled() => {}
        () = settling => {}
    }
}

/// Returns how many jobs there was something to tell of.
async fn settle_some(engine: &Engine) -> Result<usize, EngineError> {
    let store = &engine.inner.store;
    let news = store.dependency_news(TOGETHER).await?;
    let events = news
        .iter()
        .filter_map(|one| Some((one.job, Event::Awaited(one.awaited?))));
    let events: Vec<_> = events.collect();
    if !events.is_empty() {
        engine.change_all(events).await?;
    }
    let count = news.len();
    if count > 0 {
        store.settle_dependencies(news).await?;
    }
    Ok(count)
}
