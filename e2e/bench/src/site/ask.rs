//! Questions to a balancer, a connection each, to see who answers.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::net::Link;
use super::web::FILE;

const ANSWER: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until each of the wanted pods has answered.
pub fn until_all(link: &Link, address: &str, wanted: &BTreeSet<&str>, patience: Duration) -> Result<()> {
    link.client().within(|| {
        let deadline = Instant::now() + patience;
        let mut missing = wanted.clone();
        let mut last = None;
        while !missing.is_empty() {
            match ask(address) {
                Ok(answer) => drop(missing.remove(answer.as_str())),
                Err(error) => {
                    last = Some(error);
                    sleep(PAUSE);
                }
            }
            if Instant::now() > deadline {
                bail!("no answer from {missing:?} through {address}; {last:?}");
            }
        }
        Ok(())
    })
}

/// The body that is answered to a request of a connection of its own.
fn ask(address: &str) -> Result<String> {
    let to: SocketAddr = format!("{address}:80").parse()?;
    let mut stream = TcpStream::connect_timeout(&to, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(
        stream,
        "GET /{FILE} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").context("no whole answer")?;
    Ok(body.trim().to_owned())
}
