//! Waiting for conditions. Nothing else in the tests sleeps.
#![allow(
    clippy::disallowed_methods,
    reason = "no runtime has anything to do meanwhile"
)]

use anyhow::{Context, Result};
use std::thread;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(200);

/// How long a thing may take that needs a container to start, on a slow machine.
pub const CONTAINER: Duration = Duration::from_mins(2);
/// How long a thing may take that only needs programs to notice.
pub const NOTICE: Duration = Duration::from_secs(30);

/// Tries until `check` succeeds, for at most `patience`. Its last error then says what is still wrong.
pub fn until<T>(what: &str, patience: Duration, mut check: impl FnMut() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if begin.elapsed() >= patience => {
                return Err(error).with_context(|| format!("waited {} s until {what}", patience.as_secs()));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[test]
    fn it_tries_until_it_succeeds() {
        let mut tries = 0;
        let result = until("three tries", NOTICE, || {
            tries += 1;
            ensure!(tries == 3, "{tries} tries");
            Ok(tries)
        });
        assert_eq!(result.unwrap(), 3);
    }

    #[test]
    fn the_last_error_says_what_is_wrong() {
        let error = until::<()>("never", Duration::ZERO, || anyhow::bail!("still wrong")).unwrap_err();
        assert_eq!(format!("{error:#}"), "waited 0 s until never: still wrong");
    }
}
