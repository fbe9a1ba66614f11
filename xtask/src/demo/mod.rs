//! `cargo xtask demo`: one job from request to callback, on this machine and in a temporary
//! directory that is gone afterwards.

mod agent;
mod show;

use std::process::{Command, Stdio};
use std::time::Duration;

use agent_tests::callback::{Receiver, verify};
use agent_tests::process::wait_until;
use agent_tests::repo::BareRepo;
use agent_tests::server::{Builder, SECRET, Server, program};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use self::agent::Agent;
use crate::interrupt::Interrupt;
use crate::workspace;

/// A real agent thinks for a while.
const JOB: Duration = Duration::from_mins(10);
/// The callback is sent at once when the job has ended.
const CALLBACK: Duration = Duration::from_secs(30);
const BRANCH: &str = "demo/greet-by-name";
const WEBHOOK_SECRET: &str = "whsec_ZGVtbyBvZiBhZ2VudC1zZXJ2ZXIsIDI0IGI=";

/// How to run the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Use the bundled stand-in for the CLI even where the real one is installed and logged in.
    #[arg(long)]
    fake: bool,
}

/// Builds the programs and runs one job.
pub(crate) fn run(options: &Demo) -> Result<()> {
    let interrupt = Interrupt::watch()?;
    show::heading("Building agent-server, agent-admin and a stand-in for the agent");
    build()?;
    let agent = if options.fake {
        Agent::Fake
    } else {
        Agent::find(&interrupt)
    };
    show::heading(&format!("The agent: {}", agent.describe()));

    let receiver = Receiver::start()?;
    let builder = agent.configure(Builder::new()?);
    let repo = builder.repo("acme", "greeter")?;
    show::fact("repository", repo.path().display());
    let mut server = builder
        .env("WEBHOOK_SECRET", WEBHOOK_SECRET)
        .env("LOG_LEVEL", "warn")
        .start()?;
    show::fact("server", server.url());

    let job = submit(&server, &agent, &receiver)?;
    let outcome = follow(&server, &job, &interrupt).and_then(|()| {
        let ended = server.job(&job)?;
        present(&ended, &repo)?;
        callback(&receiver, &job, &interrupt)?;
        Ok(ended["status"] == "completed")
    });
    clean_up(&mut server, &job, outcome.is_err())?;
    ensure!(outcome?, "the job did not complete; its log above says why");
    show::next_steps();
    Ok(())
}

/// Builds what the tests build too, so that nothing is compiled twice with other features.
fn build() -> Result<()> {
    let mut cargo = workspace::cargo(&["build", "--quiet", "--locked", "--workspace", "--bins"]);
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "the build ended with {status}");
    Ok(())
}

fn submit(server: &Server, agent: &Agent, receiver: &Receiver) -> Result<String> {
    let request = json!({
        "githubOrg": "acme",
        "githubRepo": "greeter",
        "branchName": BRANCH,
        "title": "Greet by name",
        "prompt": agent.prompt(),
        "osCallbackUrl": receiver.url(),
    });
    show::heading("POST /jobs");
    show::json(&request);
    let job = server.submit(&request)?;
    show::fact("job", &job);
    Ok(job)
}

/// Shows what the agent does, as it does it, until the job has ended.
fn follow(server: &Server, job: &str, interrupt: &Interrupt) -> Result<()> {
    show::heading(&format!("agent-admin jobs logs -f {job}"));
    let mut logs = Command::new(program("agent-admin")?)
        .args(["--url", server.url(), "jobs", "logs", "-f", job])
        .env("AGENT_API_SECRET", SECRET)
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start agent-admin")?;
    let over = || interrupt.came() || !matches!(logs.try_wait(), Ok(None));
    let in_time = wait_until(JOB, over);
    logs.kill().ok();
    logs.wait()?;
    interrupt.check()?;
    ensure!(in_time, "the job has not ended within {JOB:?}");
    Ok(())
}

fn present(job: &Value, repo: &BareRepo) -> Result<()> {
    show::heading("GET /jobs/:id");
    for name in [
        "status",
        "error",
        "branchName",
        "filesChanged",
        "numTurns",
        "costUsd",
    ] {
        match &job[name] {
            Value::Null => {}
            Value::String(text) => show::fact(name, text),
            other => show::fact(name, other),
        }
    }
    if repo.rev(BRANCH).is_some() {
        show::heading(&format!("git diff main...{BRANCH}, as it was pushed"));
        let commits = format!("main..{BRANCH}");
        show::text(&repo.git(&["log", "--format=%h %an: %s", &commits])?);
        show::text(&repo.git(&["diff", &format!("main...{BRANCH}")])?);
    }
    Ok(())
}

fn callback(receiver: &Receiver, job: &str, interrupt: &Interrupt) -> Result<()> {
    show::heading("The callback that arrived");
    wait_until(CALLBACK, || {
        interrupt.came() || !receiver.received().is_empty()
    });
    interrupt.check()?;
    let posts = receiver.received();
    let request = posts.first().context("no callback came")?;
    let body = verify(request, WEBHOOK_SECRET)?;
    ensure!(body["jobId"] == job, "it is about another job: {body}");
    for name in ["webhook-id", "webhook-signature", "x-agent-signature"] {
        show::fact(name, request.header(name).unwrap_or_default());
    }
    show::json(&body);
    show::text("Both signatures are right.");
    Ok(())
}

/// Ends the job if need be, and the server in good order; what is left then goes with `server`.
fn clean_up(server: &mut Server, job: &str, unfinished: bool) -> Result<()> {
    if unfinished {
        // It may have ended by itself, or the server with the same signal as this program.
        let path = format!("/jobs/{job}/cancel");
        drop(server.client().post(&path, &json!({})));
    }
    server.terminate()?;
    Ok(())
}
