//! All that the lab's pods run, in one small static program: `pause`, `web`, `udp`, `get`.

use clap::{Parser, Subcommand};
use e2e::pod::{Identity, client, signals::Signals, udp, web};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Sandbox, server and client of the lab's pods", version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Sleep until told to end (the default).
    Pause,
    /// Serve HTTP: `/`, `/healthz`, `/download?bytes=N&rate=BYTES_PER_SECOND`, `/stream`.
    Web {
        /// The port to listen on.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// How many seconds to go on after SIGTERM, before open connections are waited for.
        #[arg(long, default_value_t = 3)]
        linger: u64,
        /// How many seconds open connections then have.
        #[arg(long, default_value_t = 20)]
        drain: u64,
    },
    /// Answer each datagram with this pod's identity.
    Udp {
        /// The port to listen on.
        #[arg(long, default_value_t = 8081)]
        port: u16,
        /// How many seconds to go on after SIGTERM.
        #[arg(long, default_value_t = 0)]
        linger: u64,
    },
    /// Request an http:// address, and count the answers by server.
    Get {
        /// For example `http://web:80/`.
        url: String,
        /// How many requests to make, each on a connection of its own.
        #[arg(long, default_value_t = 1)]
        count: usize,
        /// Milliseconds between them.
        #[arg(long, default_value_t = 0)]
        interval_ms: u64,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let signals = Signals::block()?;
    match Args::parse().command.unwrap_or(Command::Pause) {
        Command::Pause => signals.wait_for_end()?,
        Command::Web { port, linger, drain } => {
            let listener = TcpListener::bind(&any(port)[..])?;
            let server = web::Server::new(Identity::from_env());
            let accepting = Arc::clone(&server);
            thread::spawn(move || accepting.accept(&listener));
            signals.wait_for_end()?;
            server.end(Duration::from_secs(linger), Duration::from_secs(drain));
        }
        Command::Udp { port, linger } => {
            let socket = UdpSocket::bind(&any(port)[..])?;
            thread::spawn(move || udp::serve(&socket, &Identity::from_env()));
            signals.wait_for_end()?;
            thread::sleep(Duration::from_secs(linger));
        }
        Command::Get {
            url,
            count,
            interval_ms,
        } => {
            let interval = Duration::from_millis(interval_ms);
            let Some(tally) = unless_told_to_end(signals, move || client::get_many(&url, count, interval))
            else {
                return Ok(ExitCode::FAILURE);
            };
            let tally = tally?;
            print!("{tally}");
            if !tally.failures.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `work` to its end, or until a signal comes.
fn unless_told_to_end<T: Send + 'static>(
    signals: Signals,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, first) = mpsc::channel();
    let told = done.clone();
    thread::spawn(move || done.send(Some(work())));
    thread::spawn(move || signals.wait_for_end().map(|()| told.send(None)));
    first.recv().ok().flatten()
}

/// Both families by one socket; IPv4 alone where the kernel has no other.
fn any(port: u16) -> [SocketAddr; 2] {
    [
        (Ipv6Addr::UNSPECIFIED, port).into(),
        (Ipv4Addr::UNSPECIFIED, port).into(),
    ]
}
