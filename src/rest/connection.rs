//! Connections as the listener takes them: so many at a time, none idle for ever, each of which can be cut.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::model::ClosedList;
use crate::telemetry::{Event, Spell};

/// Most connections at a time. Whoever comes then waits in the system's own queue.
const MAX_CONNECTIONS: usize = 1_024;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(300);
/// The pause after a connection that could not be taken, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(100);

/// The listener.
pub(super) struct Connections {
    listener: TcpListener,
    free: Arc<Semaphore>,
    refusals: Spell,
}

impl Connections {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(MAX_CONNECTIONS)), refusals: Spell::default() }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let Ok(permit) = self.free.clone().acquire_owned().await else {
                // The semaphore is never closed.
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    if let Some(past) = self.refusals.worked() {
                        info!(after = ?past.after, failures = past.failures, "connections can be taken again");
                    }
                    // Replies are written in one piece; waiting for more would only make them late.
                    if let Err(error) = stream.set_nodelay(true) {
                        debug!(%error, "a connection keeps its small packets back");
                    }
                    let idle = Box::pin(sleep_until(Instant::now() + IDLE));
                    return (Connection { stream, cut: Cut::default(), idle, _permit: permit }, address);
                }
                Err(error) => {
                    if self.refusals.failed() {
                        warn!(event = Event::ConnectionFailing.as_str(), %error, "a connection cannot be taken; trying again");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Cuts the connection that a request came over, before a byte of the reply is sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut(Arc<AtomicBool>);

impl Cut {
    pub(super) fn now(&self) {
        self.0.store(true, Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        match self.0.load(Relaxed) {
            true => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut on purpose")),
            false => Ok(()),
        }
    }
}

impl Connected<IncomingStream<'_, Connections>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.io().cut.clone()
    }
}

/// A connection.
pub(super) struct Connection {
    stream: TcpStream,
    cut: Cut,
    idle: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn stirs(&mut self) {
        self.idle.as_mut().reset(Instant::now() + IDLE);
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                self.stirs();
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.idle.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the connection was idle for too long")))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.cut.check()?;
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.stirs();
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.cut.check()?;
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.stirs();
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
