//! The supervisor's side of its socket: lines with the log's length go out, `cancel` and `kill`
//! come in. Each client has a task of its own, so one that never reads holds up nobody.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use crate::attempt::SOCKET;

/// Shortest time between two lengths sent to one client.
const LENGTH_EVERY: Duration = Duration::from_millis(50);
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

/// Listens in the current directory, by a relative name since a socket's address is short.
pub(crate) fn listen(lengths: watch::Receiver<u64>) -> io::Result<mpsc::Receiver<Command>> {
    let listener = UnixListener::bind(SOCKET)?;
    let (send, receive) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream, lengths.clone(), send.clone()))),
                // Out of descriptors; some may come free.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(receive)
}

async fn serve(stream: UnixStream, lengths: watch::Receiver<u64>, commands: mpsc::Sender<Command>) {
    let (input, output) = stream.into_split();
    tokio::select! {
        () = take_commands(input, commands) => {}
        () = tell_lengths(output, lengths) => {}
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

async fn tell_lengths(mut output: OwnedWriteHalf, mut lengths: watch::Receiver<u64>) {
    loop {
        let length = *lengths.borrow_and_update();
        if output
            .write_all(format!("{length}\n").as_bytes())
            .await
            .is_err()
        {
            return;
        }
        tokio::time::sleep(LENGTH_EVERY).await;
        if lengths.changed().await.is_err() {
            // The end is told by the connection's end, which only the exit record may precede.
            return std::future::pending().await;
        }
    }
}
