//! The typed client understands every answer of the server.

use std::io::Read as _;

use agent_client::wire::{CreateClient, CreateJob, Patch, UpdateClient};
use agent_client::{Client, ClientError, JobQuery, Settings};
use agent_domain::LogStream;

use crate::stage::{Stage, TOKEN};

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_typed_client_is_understood_by_both_sides() {
    let stage = Stage::new().await;
    let running = stage.job("running").await;
    let assignment = stage.claim().await;
    let log = stage.write_log(&assignment, &[(LogStream::Stdout, "hello")]);
    let settings = Settings::new(format!("http://{}", stage.address), TOKEN);
    let calls = tokio::task::spawn_blocking(move || {
        let client = Client::new(&settings)?;
        read(&client, &running, &log)?;
        change(&client)
    });
    calls.await.unwrap().unwrap();
    stage.close().await;
}

fn read(client: &Client, running: &str, log: &[u8]) -> Result<(), ClientError> {
    assert_eq!(client.health()?.queue.running, 1);
    assert_eq!(client.queue(Some(5))?.running[0].id, running);
    assert_eq!(client.clients()?.clients.len(), 1);
    assert_eq!(client.jobs(&JobQuery::default())?.jobs[0].id, running);
    assert_eq!(client.job(running)?.messages, None);
    let messages = client.job_with_messages(running, true)?.messages;
    assert_eq!(messages.expect("messages")[0].content, "hello");
    assert!(!client.history(running)?.history.is_empty());
    assert!(client.deliveries(running)?.deliveries.is_empty());
    let mut bytes = Vec::new();
    client
        .log(running, 3, false)?
        .read_to_end(&mut bytes)
        .expect("a whole log");
    assert_eq!(bytes, log[3..]);
    let stranger = client.job(&"0".repeat(32)).expect_err("unknown");
    assert_eq!(
        (stranger.status(), stranger.code()),
        (Some(404), Some("job_not_found"))
    );
    Ok(())
}

fn change(client: &Client) -> Result<(), ClientError> {
    let new = CreateClient {
        name: "Other".into(),
        github_org: "acme".into(),
        github_repo: "other".into(),
        ..CreateClient::default()
    };
    let id = client.create_client(&new)?.id;
    let change = UpdateClient {
        name: Patch::Value("New".into()),
        ..UpdateClient::default()
    };
    assert_eq!(client.update_client(&id, &change)?.name, "New");
    let job = CreateJob {
        client_id: Some(id.clone()),
        prompt: "p".into(),
        branch_name: "b".into(),
        ..CreateJob::default()
    };
    let job = client.create_job(&job)?.id;
    assert_eq!(client.cancel(&job, false)?.status, "cancelled");
    let retried = client.retry(&job)?;
    assert_eq!(retried.original_job_id, job);
    let busy = client.delete_client(&id, false).expect_err("busy");
    assert_eq!(
        (busy.status(), busy.code()),
        (Some(409), Some("client_busy"))
    );
    client.cancel(&retried.id, true)?;
    assert_eq!(client.client(&id)?.total_jobs, 2);
    assert_eq!(client.sync()?.synced.len(), 2);
    assert!(client.delete_client(&id, true)?.repo_removed);
    Ok(())
}
