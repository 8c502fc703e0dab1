//! An answer that is made while it is sent: a blocking thread writes, the
//! connection takes, and only a few pieces lie between them. A thread never
//! waits for a client longer than it may: HTTP/2 lets one stream wait on a
//! connection that is well alive.

use std::io::{self, Write};
use std::time::Duration;

use axum::body::Body;
use bytes::BytesMut;
use tokio::runtime::Handle;

use crate::api::outflow::{Outflow, outflow};

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 64 << 10;

/// Where the encoders write. A client that has gone away, or takes nothing, is
/// an error, which ends the encoding.
#[derive(Debug)]
pub struct Pieces {
    buffer: BytesMut,
    outflow: Outflow,
    runtime: Handle,
}

/// The body that `encode` writes. If it fails, or no piece is taken for
/// `write_stall`, the connection is cut off, so that a part is never taken for
/// the whole.
pub fn body(
    write_stall: Duration,
    encode: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
) -> Body {
    let (outflow, body) = outflow(write_stall);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { buffer: BytesMut::new(), outflow, runtime };
        match encode(&mut out).and_then(|()| out.send()) {
            Ok(()) => out.outflow.finish(),
            Err(error) => tracing::debug!(%error, "an answer was broken off"),
        }
    });
    body
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        Ok(self.runtime.block_on(self.outflow.send(piece))?)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
