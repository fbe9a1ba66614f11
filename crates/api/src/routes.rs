//! Which path and method leads where.

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Resource};

use crate::problem::Problem;
use crate::state::ApiState;
use crate::{
    auth, clients, credentials, events, history, jobs, log, probes, system, trace, unread, usage,
};

/// Mounts the API. It answers every path below where it is mounted, so an embedder mounts it in a
/// scope of its own, or after everything else.
///
/// ```
/// # fn f(state: agent_api::ApiState) {
/// use actix_web::{App, web};
///
/// let app = App::new()
///     .service(web::scope("/agent").configure(|cfg| agent_api::configure(cfg, state)));
/// # }
/// ```
pub fn configure(cfg: &mut ServiceConfig, state: ApiState) {
    // Whoever asks these is a machine that holds no token.
    for probe in [
        resource("/livez", "GET").route(web::get().to(probes::live)),
        resource("/readyz", "GET").route(web::get().to(probes::ready)),
    ] {
        let probe = probe.app_data(Data::new(state.clone()));
        cfg.service(probe.wrap(from_fn(unread::keep)));
    }
    let api = web::scope("")
        .app_data(Data::new(state))
        .configure(routes)
        .default_service(web::to(no_route))
        // The last one added is the first to see a request.
        .wrap(from_fn(auth::require_token))
        .wrap(from_fn(trace::tell))
        .wrap(from_fn(unread::keep));
    cfg.service(api);
}

fn routes(cfg: &mut ServiceConfig) {
    cfg.service(
        resource("/clients", "GET, POST")
            .route(web::get().to(clients::list))
            .route(web::post().to(clients::create)),
    )
    .service(
        resource("/clients/{id}", "GET, PATCH, DELETE")
            .route(web::get().to(clients::get))
            .route(web::patch().to(clients::update))
            .route(web::delete().to(clients::delete)),
    )
    .service(
        resource("/jobs", "GET, POST")
            .route(web::get().to(jobs::list))
            .route(web::post().to(jobs::create)),
    )
    .service(
        resource("/jobs/{id}", "GET, PATCH")
            .route(web::get().to(jobs::get))
            .route(web::patch().to(jobs::update)),
    )
    .service(resource("/jobs/{id}/cancel", "POST").route(web::post().to(jobs::cancel)))
    .service(resource("/jobs/{id}/messages", "POST").route(web::post().to(jobs::message)))
    .service(resource("/jobs/{id}/release", "POST").route(web::post().to(jobs::release)))
    .service(resource("/jobs/{id}/retry", "POST").route(web::post().to(jobs::retry)))
    .service(resource("/jobs/{id}/log", "GET").route(web::get().to(log::get)))
    .service(resource("/jobs/{id}/events", "GET").route(web::get().to(events::get)))
    .service(resource("/jobs/{id}/history", "GET").route(web::get().to(history::changes)))
    .service(resource("/jobs/{id}/deliveries", "GET").route(web::get().to(history::deliveries)))
    .service(
        resource("/jobs/{id}/deliveries/{delivery}/redeliver", "POST")
            .route(web::post().to(history::redeliver)),
    )
    .service(resource("/health", "GET").route(web::get().to(system::health)))
    .service(resource("/credentials", "GET").route(web::get().to(credentials::list)))
    .service(
        resource("/credentials/{name}/resume", "POST").route(web::post().to(credentials::resume)),
    )
    .service(resource("/usage", "GET").route(web::get().to(usage::get)))
    .service(resource("/queue", "GET").route(web::get().to(system::queue)))
    .service(resource("/sync", "POST").route(web::post().to(system::sync)));
}

/// A resource that answers 405 to any method but those it is given routes for.
fn resource(path: &str, allow: &'static str) -> Resource {
    let refuse = move || async move { Err::<HttpResponse, _>(Problem::method_not_allowed(allow)) };
    web::resource(path).default_service(web::to(refuse))
}

async fn no_route() -> Result<HttpResponse, Problem> {
    Err(Problem::no_route())
}
