//! An answer that a task makes while it is sent: a few pieces lie between the
//! task and the connection, so that a slow client slows the task and nothing
//! grows.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

/// Pieces that wait for the client.
const WAITING_PIECES: usize = 2;

/// Why a piece was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// The client went away.
    Gone,
    /// It took nothing for too long.
    Stalled,
}

impl From<Unsent> for io::Error {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Gone => io::ErrorKind::BrokenPipe.into(),
            Unsent::Stalled => io::ErrorKind::TimedOut.into(),
        }
    }
}

/// Where the task puts its pieces. Dropped without [`Outflow::finish`], the
/// connection is cut off, so that a part is never taken for the whole.
#[derive(Debug)]
pub struct Outflow {
    sender: Sender<Bytes>,
    whole: Arc<AtomicBool>,
    write_stall: Duration,
}

/// A body, and where its pieces are put.
pub fn outflow(write_stall: Duration) -> (Outflow, Body) {
    let (sender, pieces) = channel(WAITING_PIECES);
    let whole = Arc::new(AtomicBool::new(false));
    let body = Body::new(Inflow { pieces, whole: Arc::clone(&whole) });
    (Outflow { sender, whole, write_stall }, body)
}

impl Outflow {
    /// Waits until there is room for the piece.
    pub async fn send(&self, piece: Bytes) -> Result<(), Unsent> {
        match timeout(self.write_stall, self.sender.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_gone)) => Err(Unsent::Gone),
            Err(_elapsed) => Err(Unsent::Stalled),
        }
    }

    /// Resolves when the client is gone.
    pub async fn gone(&self) {
        self.sender.closed().await;
    }

    /// The answer is whole.
    pub fn finish(self) {
        self.whole.store(true, Ordering::Release);
    }
}

struct Inflow {
    pieces: Receiver<Bytes>,
    whole: Arc<AtomicBool>,
}

impl http_body::Body for Inflow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(this.pieces.poll_recv(context)) {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None if this.whole.load(Ordering::Acquire) => None,
            None => Some(Err(io::Error::other("the answer was broken off"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn a_client_that_takes_nothing_costs_a_few_pieces_and_is_given_up() {
        let (out, _body) = outflow(Duration::from_millis(20));
        let piece = Bytes::from_static(b"x");
        for _ in 0..WAITING_PIECES {
            out.send(piece.clone()).await.unwrap();
        }
        assert_eq!(out.send(piece).await, Err(Unsent::Stalled));
    }

    #[tokio::test]
    async fn only_what_was_finished_is_whole() {
        for finished in [true, false] {
            let (out, body) = outflow(Duration::from_secs(60));
            out.send(Bytes::from_static(b"all")).await.unwrap();
            if finished {
                out.finish();
            } else {
                drop(out);
            }
            let read = to_bytes(body, 100).await;
            assert_eq!(read.ok().as_deref(), finished.then_some(&b"all"[..]));
        }
    }
}
