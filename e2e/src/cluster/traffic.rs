//! Clients outside the cluster: in the lab's network, one hop away from the nodes.

use crate::pod::client::{self, Connection, Keeper, Tally};
use crate::pod::udp::Flow;
use anyhow::{Result, anyhow, ensure};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What fails at once must not fail a million times.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

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
        Self::repeat(interval, move || client::get(address, "/"))
    }

    /// Requests `/` again and again over a connection that stays until the server closes it.
    #[must_use]
    pub fn keep_alive(address: SocketAddr, interval: Duration) -> Self {
        let mut keeper = Keeper::new(address);
        Self::repeat(interval, move || keeper.get("/"))
    }

    /// Sends datagrams again and again, all from one port.
    pub fn udp(address: SocketAddr, interval: Duration) -> Result<Self> {
        let flow = Flow::new(address)?;
        Ok(Self::repeat(interval, move || flow.ask()))
    }

    /// Reads what never ends, over one connection.
    pub fn stream(address: SocketAddr) -> Result<Self> {
        let mut connection = Connection::open(address)?;
        connection.start("/stream")?;
        Ok(Self::repeat(Duration::ZERO, move || connection.line()))
    }

    fn repeat(interval: Duration, mut ask: impl FnMut() -> std::io::Result<String> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (stopped, counts) = (Arc::clone(&stop), Arc::clone(&tally));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let outcome = ask();
                let pause = if outcome.is_err() {
                    interval.max(AFTER_FAILURE)
                } else {
                    interval
                };
                counts
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .count(outcome);
                thread::park_timeout(pause);
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
        let tally = self.finish()?;
        ensure!(
            tally.failures.is_empty(),
            "the steady client lost requests:\n{tally}"
        );
        ensure!(tally.answered() > 0, "the steady client made no request");
        Ok(tally)
    }

    /// Ends it, and gives what it saw.
    pub fn finish(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let tally = Arc::clone(&self.tally);
        self.thread.join().map_err(|_| anyhow!("the client panicked"))?;
        let tally = tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(tally)
    }
}
