//! Running the API on a listener.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer};
use tokio::task::JoinHandle;

use crate::routes::configure;
use crate::state::{ApiConfig, ApiState};

/// Answers under way when the server stops get at most so long, in seconds; [`Api::stop`] is
/// usually told to wait for less.
const DRAIN_SECONDS: u64 = 30;

/// The API being served.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    state: ApiState,
    handle: ServerHandle,
    served: JoinHandle<io::Result<()>>,
}

impl Api {
    /// Where it listens; tells the port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, breaks off whoever follows a log, and gives answers under way
    /// up to `grace` to end.
    pub async fn stop(mut self, grace: Duration) {
        self.state.end_followers();
        let stopped = async {
            self.handle.stop(true).await;
            (&mut self.served).await
        };
        match tokio::time::timeout(grace, stopped).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the API ended with an error"),
            Ok(Err(error)) => tracing::error!(%error, "the API ended abnormally"),
            Err(_) => {
                tracing::warn!("some answers were cut off: they did not end in time");
                // Dropping a running server ends its threads.
                self.served.abort();
            }
        }
    }
}

/// Serves the API on `listener` until it is stopped; listens to no signals.
///
/// Must be called inside a tokio runtime. Answering happens on threads of its own.
pub fn serve(listener: TcpListener, config: ApiConfig) -> io::Result<Api> {
    let ApiConfig {
        engine,
        secret,
        limits,
        workers,
    } = config;
    let address = listener.local_addr()?;
    let state = ApiState::new(engine, &secret, limits);
    let server = server(listener, workers, state.clone())?;
    Ok(Api {
        address,
        state,
        handle: server.handle(),
        served: tokio::spawn(server),
    })
}

fn server(listener: TcpListener, workers: Option<usize>, state: ApiState) -> io::Result<Server> {
    let limits = state.limits;
    let app = move || App::new().configure(|cfg| configure(cfg, state.clone()));
    let mut server = HttpServer::new(app)
        .max_connections(limits.connections)
        .client_request_timeout(limits.head_timeout)
        .client_disconnect_timeout(Duration::from_secs(5))
        .keep_alive(limits.keep_alive)
        // A caller that is gone is noticed at once, not when there is next something to send.
        .h1_allow_half_closed(false)
        .shutdown_timeout(DRAIN_SECONDS)
        .disable_signals();
    if let Some(workers) = workers {
        server = server.workers(workers.max(1));
    }
    Ok(server.listen(listener)?.run())
}
