//! Clients outside the cluster: in the lab's network, one hop away from the nodes.

use crate::pod::client::{self, Tally};
use anyhow::{Result, anyhow, ensure};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Makes `count` requests for `/`, each on a connection of its own.
#[must_use]
pub fn request(address: SocketAddr, count: usize) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..count {
        tally.count(client::get(address, "/"));
    }
    tally
}

/// A client that goes on in a thread of its own until it is asked what it saw.
pub struct Steady {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
}

impl Steady {
    /// Requests `/` again and again, `interval` apart, each time on a new connection.
    #[must_use]
    pub fn start(address: SocketAddr, interval: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (stopped, counts) = (Arc::clone(&stop), Arc::clone(&tally));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let outcome = client::get(address, "/");
                counts
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .count(outcome);
                thread::park_timeout(interval);
            }
        });
        Self { thread, stop, tally }
    }

    /// What it saw so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it, and demands that every request was answered.
    pub fn finish_without_loss(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let tally = Arc::clone(&self.tally);
        self.thread.join().map_err(|_| anyhow!("the client panicked"))?;
        let tally = tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(
            tally.failures.is_empty(),
            "the steady client lost requests:\n{tally}"
        );
        ensure!(tally.answered() > 0, "the steady client made no request");
        Ok(tally)
    }
}
