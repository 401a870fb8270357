//! A load that does not wait for answers: what is late is sent late, and its time counts from when it was due.
//!
//! Otherwise a balancer that stops for a second would delay one request of each connection, and those that were not
//! sent meanwhile would not be counted ("coordinated omission").

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use hdrhistogram::Histogram;

use super::schedule::Schedule;
use crate::site::Site;
use crate::site::contender::Contender;
use crate::site::cpus::Share;
use crate::site::web::FILE;

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections that are open all the time.
    pub connections: u32,
    /// How long.
    pub lasting: Duration,
    /// Requests a second.
    pub rate: f64,
}

/// Until the first request all connections are open and all threads ready.
const RUN_UP: Duration = Duration::from_millis(50);
/// So long is waited for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest time that is told apart from longer ones, in microseconds.
const LONGEST: u64 = 60_000_000;

/// Loads a contender, and gives the times of all requests in microseconds.
pub fn run(site: &Site, contender: Contender, load: Load) -> Result<Histogram<u64>> {
    let to: SocketAddr = format!("{}:80", site.address(contender)?).parse()?;
    // A socket stays in the network namespace that it was made in.
    let open = || {
        (0..load.connections)
            .map(|_| connect(to))
            .collect::<Result<Vec<_>>>()
    };
    let connections = site.link().client().within(open)?;
    let schedule = Schedule {
        rate: load.rate,
        connections: load.connections,
    };
    let start = Instant::now() + RUN_UP;
    let mut all = histogram()?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(connections)
            .map(|(number, stream)| {
                let due = schedule.requests(number, load.lasting);
                scope.spawn(move || converse(stream, due, start))
            })
            .collect();
        for thread in threads {
            let times = thread.join().map_err(|_| anyhow!("a connection's thread died"))?;
            all.add(times?)?;
        }
        Ok(all)
    })
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST, 3)?)
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| to.to_string())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One connection's requests.
fn converse(
    mut stream: TcpStream,
    requests: impl Iterator<Item = Duration>,
    start: Instant,
) -> Result<Histogram<u64>> {
    Share::Rest.keep()?;
    let mut times = histogram()?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let question = format!("GET /{FILE} HTTP/1.1\r\nHost: bench\r\n\r\n");
    for due in requests.map(|due| start + due) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // Whole at once, or it would be several packets.
        stream.write_all(question.as_bytes())?;
        read_answer(&mut answers)?;
        let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(LONGEST);
        times.saturating_record(micros);
    }
    Ok(times)
}

/// Reads one answer, whose body is so long as it says.
fn read_answer(answers: &mut BufReader<TcpStream>) -> Result<()> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    ensure!(
        line.starts_with("HTTP/1.1 200 "),
        "the answer begins with {line:?}"
    );
    let mut length = None;
    while line.trim() != "" {
        line.clear();
        answers.read_line(&mut line)?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<u64>().ok();
        }
    }
    let length = length.context("an answer does not say how long it is")?;
    let mut body = Vec::new();
    answers.take(length).read_to_end(&mut body)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_waits_counts_from_when_it_was_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap());
            for number in 0..4 {
                let mut line = String::from("-");
                while line.trim() != "" {
                    line.clear();
                    requests.read_line(&mut line).unwrap();
                }
                if number == 0 {
                    thread::sleep(Duration::from_millis(100));
                }
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        });
        let due = [0, 10, 20, 30].map(Duration::from_millis);
        let times = converse(connect(to).unwrap(), due.into_iter(), Instant::now()).unwrap();
        server.join().unwrap();
        assert_eq!(times.len(), 4);
        // All wait for the first answer: 100, 90, 80 and 70 ms.
        assert!(times.min() >= 69_000, "{}", times.min());
    }
}
