//! Answers that are too long to hold: sent piece by piece as the caller takes them.
//!
//! A caller that goes away ends the work for it at once; one that stays but takes nothing ends it
//! after a while, so that it cannot keep a thread of ours for ever. An answer that does not reach
//! its end is broken off in a way a caller can tell from an end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::web::Bytes;
use agent_queue::EngineError;
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Pieces on their way between the engine and the connection.
const AHEAD: usize = 2;

/// Why an answer ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The engine could not go on.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The caller went away.
    #[error("the caller went away")]
    Gone,
    /// The server is about to stop.
    #[error("the server is about to stop")]
    Stopping,
    /// The caller took nothing for too long.
    #[error("the caller took nothing of the answer for too long")]
    Stalled,
}

/// Where the pieces of an answer go.
pub(crate) struct Sink {
    pieces: mpsc::Sender<Bytes>,
    stall: Duration,
}

impl Sink {
    /// Sends a piece, waiting until the caller has taken enough of the earlier ones.
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) -> Result<(), Broken> {
        match tokio::time::timeout(self.stall, self.pieces.send(piece.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Gone),
            Err(_) => Err(Broken::Stalled),
        }
    }
}

/// The body of an answer, written by a task of its own that ends with it.
pub(crate) struct Streamed {
    pieces: mpsc::Receiver<Bytes>,
    writer: JoinSet<Result<(), Broken>>,
}

impl Streamed {
    /// Runs `write`, which is given the sink for its pieces.
    pub(crate) fn new<F, W>(stall: Duration, write: W) -> Self
    where
        W: FnOnce(Sink) -> F,
        F: Future<Output = Result<(), Broken>> + Send + 'static,
    {
        let (sender, pieces) = mpsc::channel(AHEAD);
        let mut writer = JoinSet::new();
        writer.spawn(write(Sink {
            pieces: sender,
            stall,
        }));
        Self { pieces, writer }
    }
}

impl Stream for Streamed {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(Some(piece)) = self.pieces.poll_recv(cx) {
            return Poll::Ready(Some(Ok(piece)));
        }
        if !self.pieces.is_closed() || !self.pieces.is_empty() {
            return Poll::Pending;
        }
        self.writer.poll_join_next(cx).map(|ended| match ended {
            None | Some(Ok(Ok(()))) => None,
            Some(Ok(Err(broken))) => {
                tracing::info!(%broken, "answer broken off");
                Some(Err(io::Error::other(broken)))
            }
            Some(Err(error)) => {
                tracing::error!(%error, "the writer of an answer ended abnormally");
                Some(Err(io::Error::other(error)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn pieces_come_in_order_and_then_the_end() {
        let streamed = Streamed::new(LONG, |sink| async move {
            for n in 0..10_u8 {
                sink.send(vec![n]).await?;
            }
            Ok(())
        });
        let pieces: Vec<_> = streamed.map(|piece| piece.unwrap()[0]).collect().await;
        assert_eq!(pieces, (0..10).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn a_writer_that_fails_ends_the_answer_with_an_error() {
        let streamed = Streamed::new(LONG, |sink| async move {
            sink.send("a").await?;
            Err(EngineError::Contended.into())
        });
        let pieces: Vec<_> = streamed.collect().await;
        assert!(pieces[0].is_ok() && pieces[1].is_err() && pieces.len() == 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_takes_nothing_is_given_up() {
        let (told, ended) = tokio::sync::oneshot::channel();
        let mut streamed = Streamed::new(LONG, |sink| async move {
            let result = async {
                loop {
                    sink.send("x").await?;
                }
            }
            .await;
            told.send(matches!(result, Err(Broken::Stalled))).ok();
            result
        });
        assert!(ended.await.unwrap());
        let pieces: Vec<_> = streamed.by_ref().collect().await;
        assert_eq!(pieces.len(), AHEAD + 1);
        assert!(pieces[AHEAD].is_err());
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_ends_the_writer() {
        let (told, mut gone) = mpsc::channel::<()>(1);
        let streamed = Streamed::new(LONG, |sink| async move {
            let _held = told;
            sink.send("x").await?;
            std::future::pending().await
        });
        drop(streamed);
        assert_eq!(gone.recv().await, None);
    }
}
