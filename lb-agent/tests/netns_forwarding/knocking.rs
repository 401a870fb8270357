//! A client that connects to the echoes behind the balancer's addresses, again and again.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::connection::Connection;
use crate::common::places::within;
use crate::scene::VIPS;

pub(crate) struct Knocking {
    is_over: Arc<AtomicBool>,
    work: JoinHandle<(u32, Vec<String>)>,
}

impl Knocking {
    /// From the network namespace at a path.
    pub(crate) fn start(path: PathBuf) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = is_over.clone();
        let work = thread::spawn(move || within(path, move || knock(&flag)));
        Self { is_over, work }
    }

    /// Ends it, and tells how many connections were served, and what went wrong.
    pub(crate) fn end(self) -> (u32, Vec<String>) {
        self.is_over.store(true, Ordering::Relaxed);
        self.work.join().expect("it ends")
    }
}

fn knock(is_over: &AtomicBool) -> (u32, Vec<String>) {
    let (mut served, mut failures) = (0, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        for vip in VIPS {
            let to = SocketAddr::new(vip.parse().expect("an address"), 81);
            match connect(to).map(|mut it| it.echoes()) {
                Ok(true) => served += 1,
                Ok(false) => failures.push(format!("{vip}: no echo")),
                Err(error) => failures.push(format!("{vip}: {error}")),
            }
        }
    }
    (served, failures)
}

/// In less than the time after which a lost SYN is sent again.
pub(crate) fn connect(to: SocketAddr) -> std::io::Result<Connection> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_millis(900))?;
    Connection::over(stream)
}
