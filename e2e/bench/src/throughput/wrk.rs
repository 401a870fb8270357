//! wrk: as much load as connections that wait for each answer make.

use anyhow::{Context as _, Result, ensure};

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
    pub seconds: u32,
    /// Whether a connection is for one request only, and then another one is opened.
    pub is_fresh: bool,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answered {
    /// Requests a second.
    pub requests: f64,
    /// All of them.
    pub count: f64,
    /// Those that failed, or were answered by an error.
    pub errors: f64,
}

/// Loads a contender.
pub fn run(site: &Site, contender: Contender, load: Load) -> Result<Answered> {
    let Load {
        connections,
        seconds,
        is_fresh,
    } = load;
    let address = site.address(contender)?;
    let mut command = site.link().client().command(Share::Rest, "wrk");
    let url = format!("http://{address}/{FILE}");
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), &url]);
    if is_fresh {
        command.args(["-H", "Connection: close"]);
    }
    let output = command.output().context("could not run wrk")?;
    let (text, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "wrk {url}: {said}");
    let answered = parse(&text).with_context(|| format!("wrk said: {text}"))?;
    println!(
        "  {:>16} {:>10.0} requests/s",
        contender.name(),
        answered.requests
    );
    Ok(answered)
}

/// What wrk prints at its end.
#[must_use]
pub fn parse(text: &str) -> Option<Answered> {
    let after = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start));
    let requests = after("Requests/sec:")?.trim().parse().ok()?;
    let counts = |line: &str| line.trim().split_once(" requests in ")?.0.parse().ok();
    let count = text.lines().find_map(counts)?;
    let bad: f64 = match after("Non-2xx or 3xx responses:") {
        Some(count) => count.trim().parse().ok()?,
        None => 0.0,
    };
    let failed: f64 = after("Socket errors:").map_or(0.0, |kinds| {
        let numbers = kinds
            .split([' ', ','])
            .filter_map(|word| word.parse::<f64>().ok());
        numbers.sum()
    });
    Some(Answered {
        requests,
        count,
        errors: bad + failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_every_kind_are_counted() {
        let text = "Running 2s test @ http://10.97.0.101/ip\n  1 threads and 64 connections\n  \
                    15304 requests in 2.00s, 3.52MB read\n  \
                    Socket errors: connect 0, read 2, write 0, timeout 3\n  Non-2xx or 3xx responses: 10\n\
                    Requests/sec:   7640.50\nTransfer/sec:      1.76MB\n";
        let answered = Answered {
            requests: 7640.5,
            count: 15304.0,
            errors: 15.0,
        };
        assert_eq!(parse(text), Some(answered));
        assert_eq!(parse("unable to connect"), None);
        assert_eq!(
            parse("2 requests in 2.0s\nRequests/sec:  1.0").map(|it| it.errors),
            Some(0.0)
        );
    }
}
