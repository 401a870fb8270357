//! Asks all servers again and again, and tells the loop when a verdict changes.
//!
//! One task keeps the times; each question under way is a task of its own that ends in time, so a server that hangs
//! delays nobody else's verdict. What is no longer wanted is ended at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::metrics::{Probes, Sample};
use super::probe::{Failure, probe};
use super::tally::{Tally, Verdict};
use super::{Change, Reason, Target, Targets};
use crate::facts::Fact;

/// A new server is asked so often until something is proven.
const HURRY: Duration = Duration::from_secs(1);
/// First questions to many servers are so far apart.
const SPREAD: Duration = Duration::from_millis(1);

/// The ends of the channels that the monitor speaks through.
pub struct Monitor {
    /// Whom to ask. It ends with its sender.
    pub wanted: watch::Receiver<Arc<Targets>>,
    /// Where news go.
    pub facts: mpsc::Sender<Fact>,
    /// Where every answer is counted.
    pub probes: Arc<Probes>,
}

impl Monitor {
    /// Asks until nobody wants to know any more.
    pub async fn run(mut self) {
        let mut schedule = Schedule::new(self.probes);
        self.wanted.mark_changed();
        loop {
            let due = schedule.queue.first().map(|(due, _)| *due);
            let has_news = !schedule.news.is_empty();
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wanted = self.wanted.borrow_and_update().clone();
                    schedule.want(&wanted);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => schedule.start(Instant::now()),
                Some(ended) = schedule.running.join_next_with_id() => schedule.take(ended),
                // The loop may be busy with the kernel: the questions go on meanwhile.
                room = self.facts.reserve(), if has_news => match room {
                    Ok(room) => room.send(Fact::Health(std::mem::take(&mut schedule.news))),
                    Err(_) => return,
                },
            }
        }
    }
}

type Answer = Result<(), Failure>;

/// One server that is asked.
struct Watched {
    target: Target,
    tally: Tally,
    /// When it is asked next, or was asked last.
    due: Instant,
    running: Option<AbortHandle>,
}

impl Watched {
    /// Makes a verdict of an answer; `None` where it is no news. The first that comes by a way of its own proves the way.
    fn judge(&mut self, answer: Result<(), Reason>) -> Option<Change> {
        let before = self.tally.verdict();
        let is_news = self.tally.take(answer, self.target.check.limits);
        let verdict = self.tally.verdict();
        let is_proof =
            before == Verdict::Unproven && verdict == Verdict::Passing && self.target.mark.is_some();
        if is_proof {
            info!(server = %self.target.server, "the server answers by the way that traffic goes");
        } else if is_news {
            tell(&self.target, verdict.failure());
        }
        (is_news || is_proof).then(|| Change {
            target: self.target.clone(),
            failure: verdict.failure(),
        })
    }
}

/// Whom to ask when, and what is under way.
struct Schedule {
    probes: Arc<Probes>,
    watched: BTreeMap<u64, Watched>,
    keys: BTreeMap<Target, u64>,
    next_key: u64,
    queue: BTreeSet<(Instant, u64)>,
    running: JoinSet<(Answer, Duration)>,
    tasks: HashMap<Id, u64>,
    news: Vec<Change>,
    /// This machine could not ask.
    is_in_trouble: bool,
}

impl Schedule {
    fn new(probes: Arc<Probes>) -> Self {
        Self {
            probes,
            watched: BTreeMap::new(),
            keys: BTreeMap::new(),
            next_key: 0,
            queue: BTreeSet::new(),
            running: JoinSet::new(),
            tasks: HashMap::new(),
            news: Vec::new(),
            is_in_trouble: false,
        }
    }

    /// From now on, these are asked and no others.
    fn want(&mut self, wanted: &Targets) {
        let wanted: BTreeSet<&Target> = wanted.values().flatten().collect();
        let gone = self.keys.extract_if(.., |target, _| !wanted.contains(target));
        for key in gone.map(|(_, key)| key).collect::<Vec<_>>() {
            self.forget(key);
        }
        let new: Vec<_> = wanted
            .into_iter()
            .filter(|target| !self.keys.contains_key(*target))
            .collect();
        let count = u32::try_from(new.len()).unwrap_or(u32::MAX).max(1);
        let mut due = Instant::now();
        for target in new {
            self.watch(target.clone(), due);
            due += SPREAD.min(target.check.interval / count);
        }
    }

    fn watch(&mut self, target: Target, due: Instant) {
        let key = self.next_key;
        self.next_key += 1;
        self.keys.insert(target.clone(), key);
        self.queue.insert((due, key));
        let tally = if target.is_doubted {
            Tally::failing(Reason::Unproven)
        } else {
            Tally::default()
        };
        let watched = Watched {
            target,
            tally,
            due,
            running: None,
        };
        self.watched.insert(key, watched);
    }

    fn forget(&mut self, key: u64) {
        let Some(watched) = self.watched.remove(&key) else {
            return;
        };
        self.queue.remove(&(watched.due, key));
        if let Some(running) = watched.running {
            running.abort();
        }
        self.probes.forget(&watched.target);
        // The loop forgets it by itself.
        self.news.retain(|change| change.target != watched.target);
    }

    /// Asks all whose time has come.
    fn start(&mut self, now: Instant) {
        while let Some((due, key)) = self.queue.first().copied().filter(|(due, _)| *due <= now) {
            self.queue.remove(&(due, key));
            let Some(watched) = self.watched.get_mut(&key) else {
                continue;
            };
            let target = watched.target.clone();
            let handle = self.running.spawn(async move {
                let started = Instant::now();
                let answer = probe(&target).await;
                (answer, started.elapsed())
            });
            self.tasks.insert(handle.id(), key);
            watched.due = now;
            watched.running = Some(handle);
        }
    }

    fn take(&mut self, ended: Result<(Id, (Answer, Duration)), JoinError>) {
        let (task, answer, took) = match ended {
            Ok((task, (answer, took))) => (task, answer, took),
            Err(error) => (
                error.id(),
                Err(Failure::Local(io::Error::other(error))),
                Duration::ZERO,
            ),
        };
        let key = self.tasks.remove(&task);
        // Without one it was ended because it is no longer wanted.
        let Some((key, watched)) = key.and_then(|key| Some((key, self.watched.get_mut(&key)?))) else {
            return;
        };
        watched.running = None;
        self.probes.asked(&answer);
        if let Err(Failure::Local(error)) = &answer
            && !self.is_in_trouble
        {
            warn!(
                error = error as &dyn std::error::Error,
                "a server could not be asked; its verdict stays"
            );
        }
        self.is_in_trouble = matches!(answer, Err(Failure::Local(_)));
        if let Some(answer) = of_server(&answer) {
            let is_good = answer.is_ok();
            self.probes.sampled(&watched.target, Sample { took, is_good });
            self.news.extend(watched.judge(answer));
        }
        watched.due = next(watched).max(Instant::now());
        self.queue.insert((watched.due, key));
    }
}

/// What an answer says of the server, if anything.
fn of_server(answer: &Answer) -> Option<Result<(), Reason>> {
    match answer {
        Ok(()) => Some(Ok(())),
        Err(Failure::Server(reason)) => Some(Err(*reason)),
        Err(Failure::Local(_)) => None,
    }
}

/// When to ask again: give or take a tenth, so that many agents and servers don't fall into step.
fn next(watched: &Watched) -> Instant {
    let interval = watched.target.check.interval;
    let interval = match watched.tally.verdict() {
        Verdict::Unproven | Verdict::Failing(Reason::Unproven) => interval.min(HURRY),
        Verdict::Passing | Verdict::Failing(_) => interval,
    };
    watched.due + interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}

fn tell(target: &Target, failure: Option<Reason>) {
    let server = target.server;
    if let Some(reason) = failure {
        let reason = reason.to_string();
        warn!(%server, reason, "the server fails its health check");
    } else {
        info!(%server, "the server passes its health check again");
    }
}
