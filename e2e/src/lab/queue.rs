//! Requests from the host to a machine, as files in a folder both see.
//!
//! It needs no network and no password: whoever can write to the lab's folder is root already. The machine looks at the
//! folder a few times a second, which is far below what a container's start takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::service::write_whole;

/// How often either side looks.
pub const TURN: Duration = Duration::from_millis(200);

/// What a machine can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Give these image archives to the container runtime.
    Import(Vec<PathBuf>),
    /// Change the pod network to the backend that the cluster's file names.
    ChangeFlannel,
    /// Run a command.
    Run(Vec<String>),
}

/// How it went: what was printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The exit code; 0 is success.
    pub code: i32,
    /// Standard output.
    pub output: String,
    /// Standard error, or why the request could not be met.
    pub error: String,
}

/// One machine's folder.
#[derive(Clone, Debug)]
pub struct Queue {
    folder: PathBuf,
}

impl Queue {
    /// The requests in `folder`.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Asks the machine, without waiting.
    pub fn ask(&self, request: &Request) -> Result<Ticket> {
        fs::create_dir_all(&self.folder)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{:020}-{}", now.as_nanos(), std::process::id());
        write_whole(
            &self.folder.join(format!("{name}.request")),
            &serde_json::to_string(request)?,
        )?;
        Ok(Ticket {
            answer: self.folder.join(format!("{name}.answer")),
        })
    }

    /// Asks, waits, and makes a failure an error.
    pub fn call(&self, request: &Request, patience: Duration) -> Result<String> {
        self.ask(request)?.wait(patience)?.into_output()
    }

    /// Takes the oldest request, on the machine's side.
    pub(super) fn take(&self) -> Result<Option<(PathBuf, Request)>> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Ok(None);
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "request"));
        let Some(path) = paths.into_iter().min() else {
            return Ok(None);
        };
        let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        fs::remove_file(&path).with_context(|| format!("could not remove {}", path.display()))?;
        let request =
            serde_json::from_str(&text).with_context(|| format!("could not read {}", path.display()))?;
        Ok(Some((path, request)))
    }

    /// Answers a request by the path it was taken from, on the machine's side.
    pub(super) fn answer(request: &Path, answer: &Answer) -> Result<()> {
        write_whole(&request.with_extension("answer"), &serde_json::to_string(answer)?)
    }

    /// Forgets what was asked of an earlier machine.
    pub fn clear(&self) {
        // A folder that is not there is empty.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Answer {
    /// What was printed, if it went well.
    pub fn into_output(self) -> Result<String> {
        if self.code == 0 {
            Ok(self.output)
        } else {
            Err(anyhow!("{}", self.error.trim().to_owned()))
        }
    }
}

/// A request on its way.
#[derive(Debug)]
pub struct Ticket {
    answer: PathBuf,
}

impl Ticket {
    /// Waits for the answer.
    pub fn wait(self, patience: Duration) -> Result<Answer> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Ok(text) = fs::read_to_string(&self.answer) {
                let answer = serde_json::from_str(&text).context("a machine's answer is damaged")?;
                fs::remove_file(&self.answer)?;
                return Ok(answer);
            }
            std::thread::sleep(TURN / 2);
        }
        bail!(
            "no answer from the machine in {} s ({})",
            patience.as_secs(),
            self.answer.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_met_in_order_and_answered_once() {
        let folder = std::env::temp_dir().join(format!("plb-queue-{}", std::process::id()));
        let queue = Queue::new(folder);
        let first = queue.ask(&Request::Run(vec!["true".to_owned()])).unwrap();
        queue.ask(&Request::ChangeFlannel).unwrap();
        let (path, request) = queue.take().unwrap().unwrap();
        assert_eq!(request, Request::Run(vec!["true".to_owned()]));
        let done = Answer {
            code: 0,
            output: "fine".to_owned(),
            error: String::new(),
        };
        Queue::answer(&path, &done).unwrap();
        assert_eq!(queue.take().unwrap().unwrap().1, Request::ChangeFlannel);
        assert_eq!(first.wait(Duration::from_secs(1)).unwrap(), done);
        assert!(queue.take().unwrap().is_none());
        queue.clear();
    }
}
