//! `agent-admin`: the command line for a running agent-server, over its HTTP API.

mod args;
mod callbacks;
mod clients;
mod credentials;
mod exit;
mod failure;
mod jobs;
mod logs;
mod once;
mod options;
mod screen;
mod submit;
mod system;
mod usage;
mod wait;

use std::process::ExitCode;

use agent_client::{Client, Settings};
use clap::Parser as _;

use crate::args::{Args, Command};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Screen;

fn main() -> ExitCode {
    let args = Args::parse();
    let mut screen = Screen::stdout(args.json);
    let result = run(args, &mut screen).and_then(|exit| {
        screen.flush()?;
        Ok(exit)
    });
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(screen.is_json()).into(),
    }
}

fn run(args: Args, screen: &mut Screen) -> Result<Exit, Failure> {
    let token = args
        .token
        .filter(|token| !token.is_empty())
        .ok_or(Failure::NoToken)?;
    let client = Client::new(&Settings::new(args.url, token))?;
    match args.command {
        Command::Clients(command) => clients::run(&client, screen, command),
        Command::Repos(command) => system::repos(&client, screen, command),
        Command::Jobs(command) => jobs::run(&client, screen, command),
        Command::Callbacks(command) => callbacks::run(&client, screen, command),
        Command::Credentials(command) => credentials::run(&client, screen, command),
        Command::Queue { limit } => system::queue(&client, screen, limit),
        Command::Usage(asked) => usage::run(&client, screen, asked),
        Command::Health => system::health(&client, screen),
    }
}
