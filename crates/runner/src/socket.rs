//! The supervisor's side of its socket: lines with the log's length, or with the run's signs as JSON, go
//! out, `cancel` and `kill` come in. Each client has a task of its own, so one that never reads holds
//! up nobody.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use crate::attempt::SOCKET;
use crate::signs::Signs;

/// Shortest time between two things told to one client.
const TELL_EVERY: Duration = Duration::from_millis(50);
/// Longer than any word we know.
const WORD_MAX: usize = 16;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// End the agent in good order.
    Cancel,
    /// End everything at once.
    Kill,
}

/// What each client is told at first, and then whenever it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The log's length.
    pub(crate) length: u64,
    /// What the run shows of itself.
    pub(crate) signs: Signs,
}

/// Listens in the current directory, by a relative name since a socket's address is short.
pub(crate) fn listen(told: watch::Receiver<Told>) -> io::Result<mpsc::Receiver<Command>> {
    let listener = UnixListener::bind(SOCKET)?;
    let (send, receive) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream, told.clone(), send.clone()))),
                // Out of descriptors; some may come free.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(receive)
}

async fn serve(stream: UnixStream, told: watch::Receiver<Told>, commands: mpsc::Sender<Command>) {
    let (input, output) = stream.into_split();
    tokio::select! {
        () = take_commands(input, commands) => {}
        () = tell(output, told) => {}
    }
}

async fn take_commands(mut input: OwnedReadHalf, commands: mpsc::Sender<Command>) {
    let mut word = Vec::new();
    let mut chunk = [0; 64];
    while let Ok(count) = input.read(&mut chunk).await {
        if count == 0 {
            return;
        }
        for byte in &chunk[..count] {
            if *byte != b'\n' {
                word.truncate(WORD_MAX);
                word.push(*byte);
                continue;
            }
            let command = match word.as_slice() {
                b"cancel" => Some(Command::Cancel),
                b"kill" => Some(Command::Kill),
                _ => None,
            };
            word.clear();
            if let Some(command) = command
                && commands.send(command).await.is_err()
            {
                return;
            }
        }
    }
}

async fn tell(mut output: OwnedWriteHalf, mut told: watch::Receiver<Told>) {
    let mut last: Option<Told> = None;
    loop {
        let now = told.borrow_and_update().clone();
        let text = words(&now, last.as_ref());
        if output.write_all(text.as_bytes()).await.is_err() {
            return;
        }
        last = Some(now);
        tokio::time::sleep(TELL_EVERY).await;
        if told.changed().await.is_err() {
            // The end is told by the connection's end, which only the exit record may precede.
            return std::future::pending().await;
        }
    }
}

/// What is new since `last`, a line each.
fn words(now: &Told, last: Option<&Told>) -> String {
    let mut lines = Vec::new();
    if last.is_none_or(|last| last.signs != now.signs) {
        lines.push(serde_json::to_string(&now.signs).unwrap_or_default());
    }
    if last.is_none_or(|last| last.length != now.length) {
        lines.push(now.length.to_string());
    }
    lines.push(String::new());
    lines.join("\n")
}
