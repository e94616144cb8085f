//! The one word that ends a process: asked for by a signal or by the code, seen by threads and tasks.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A token that is requested once and stays so. Clones are the same token.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A token that only [`Shutdown::request`] turns.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// A token that SIGTERM and SIGINT turn. Needs a tokio runtime with I/O that goes on running.
    pub fn on_signals() -> io::Result<Self> {
        let token = Self::new();
        let turned = token.clone();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "shutting down");
            turned.request();
        });
        Ok(token)
    }

    /// Asks for the end. May be called from anywhere, more than once.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Whether the end was asked for. Cheap, and needs no runtime.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the end was asked for, at once if it already was.
    pub async fn requested(&self) {
        // The sender lives as long as this token, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|requested| *requested).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_seen_by_every_clone_before_and_after() {
        let token = Shutdown::new();
        let clone = token.clone();
        assert!(!clone.is_requested());
        let waiter = tokio::spawn(async move { clone.requested().await });
        std::thread::spawn({
            let token = token.clone();
            move || token.request()
        });
        waiter.await.expect("the waiter returns");
        assert!(token.is_requested());
        token.requested().await;
    }
}
