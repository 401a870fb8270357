//! Events on transitions of conditions, for `kubectl describe`.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::sync::{Mutex, PoisonError};

use crate::causes::causes;
use crate::status::Note;
use crd::condition::{self, reason};
use crd::{names, shorten};

/// Greatest length of an Event's note in bytes, with room for characters of several bytes.
const NOTE_MAX: usize = 250;
/// So many Events at most are known to a recorder.
const KEPT: usize = 100;

/// Writes Events. One that repeats itself is counted up in the first, as long as few others came since.
pub(crate) struct Teller {
    client: Client,
    recorder: Mutex<(Recorder, usize)>,
}

impl Teller {
    pub(crate) fn new(client: Client) -> Self {
        let recorder = Mutex::new((Recorder::new(client.clone(), reporter()), 0));
        Self { client, recorder }
    }

    /// A recorder keeps all that it wrote for some minutes, which is much after a change of all balancers: so there is
    /// a new one now and then.
    fn recorder(&self) -> Recorder {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if recorder.1 == KEPT {
            *recorder = (self.forgetful(), 0);
        }
        recorder.1 += 1;
        recorder.0.clone()
    }

    /// A recorder that knows no earlier Event.
    fn forgetful(&self) -> Recorder {
        Recorder::new(self.client.clone(), reporter())
    }
}

/// Publishes what has changed. An Event that can't be written is logged, and no more: the conditions say the same.
pub(crate) async fn publish(
    teller: &Teller,
    about: &ObjectReference,
    before: &[Condition],
    now: &[Condition],
) {
    for (type_, condition) in transitions(before, now) {
        let event = Event {
            type_,
            reason: reason_of(type_, condition).to_owned(),
            note: Some(shorten(&condition.message, NOTE_MAX)),
            action: condition.type_.clone(),
            secondary: None,
        };
        if let Err(error) = teller.recorder().publish(&event, about).await {
            tracing::warn!(
                error = causes(&error),
                reason = event.reason,
                "could not write an event"
            );
        }
    }
}

/// Publishes notes that are no transitions.
pub(crate) async fn note(teller: &Teller, about: &ObjectReference, notes: Vec<Note>) {
    for note in notes {
        let event = Event {
            type_: note.type_,
            reason: note.reason.to_owned(),
            note: Some(shorten(&note.text, NOTE_MAX)),
            action: "Drain".to_owned(),
            secondary: None,
        };
        // A recorder that knows earlier ones would only count them up, and keep the text of the first.
        if let Err(error) = teller.forgetful().publish(&event, about).await {
            let (error, reason) = (causes(&error), note.reason);
            tracing::warn!(error, reason, "could not write an event");
        }
    }
}

/// Who writes Events.
fn reporter() -> Reporter {
    Reporter {
        controller: names::OPERATOR_MANAGER.to_owned(),
        instance: std::env::var("POD_NAME").ok(),
    }
}

/// The transitions worth an Event, each reason once.
fn transitions<'a>(before: &[Condition], now: &'a [Condition]) -> Vec<(EventType, &'a Condition)> {
    let mut told: Vec<(EventType, &Condition)> = Vec::new();
    for condition in now {
        let was = condition::find(before, &condition.type_);
        let known = told.iter().any(|(_, it)| it.reason == condition.reason);
        if let Some(type_) = worth(was, condition).filter(|_| !known) {
            told.push((type_, condition));
        }
    }
    told
}

fn worth(was: Option<&Condition>, is: &Condition) -> Option<EventType> {
    if was.is_some_and(|was| was.status == is.status && was.reason == is.reason) {
        return None;
    }
    let was_good = was.is_some_and(is_good);
    match (is.type_.as_str(), is.reason.as_str()) {
        // The first says nothing that the others don't, the second is on the way after each edit.
        (condition::READY, _) | (_, reason::PENDING) => None,
        (_, reason::ADDRESS_PENDING | reason::AGENTS_MISSING) if !was_good => None,
        (condition::ACCEPTED, reason::SCHEDULER_USES_ONE_SERVER) => Some(EventType::Warning),
        _ if !is_good(is) => Some(EventType::Warning),
        _ if was_good => None,
        // At the start these are as expected.
        (condition::ACCEPTED | condition::RESOLVED_REFS, _) if was.is_none() => None,
        // Recovered from a fault, and not just from knowing nothing.
        (condition::DEGRADED, _) if was.is_none_or(|was| was.status != "True") => None,
        _ => Some(EventType::Normal),
    }
}

fn is_good(condition: &Condition) -> bool {
    let good = if condition.type_ == condition::DEGRADED {
        "False"
    } else {
        "True"
    };
    condition.status == good
}

fn reason_of(type_: EventType, condition: &Condition) -> &str {
    match (type_, condition.type_.as_str()) {
        (EventType::Normal, condition::DEGRADED) => "Recovered",
        _ => &condition.reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: String::new(),
            observed_generation: Some(1),
            last_transition_time: crate::status::now(),
        }
    }

    fn reasons(before: &[Condition], now: &[Condition]) -> Vec<String> {
        transitions(before, now)
            .into_iter()
            .map(|(type_, it)| format!("{type_:?} {}", reason_of(type_, it)))
            .collect()
    }

    #[test]
    fn a_new_balancer_on_its_way_makes_no_noise() {
        let now = [
            condition(condition::ACCEPTED, "True", "Accepted"),
            condition(condition::RESOLVED_REFS, "True", "ResolvedRefs"),
            condition(condition::ADDRESS_ASSIGNED, "False", reason::ADDRESS_PENDING),
            condition(condition::PROGRAMMED, "False", reason::PENDING),
            condition(condition::DEGRADED, "Unknown", reason::PENDING),
        ];
        assert!(reasons(&[], &now).is_empty());
    }

    #[test]
    fn one_cause_is_told_once() {
        let now = [
            condition(condition::RESOLVED_REFS, "False", reason::SERVICE_NOT_FOUND),
            condition(condition::BACKENDS_AVAILABLE, "False", reason::SERVICE_NOT_FOUND),
        ];
        assert_eq!(reasons(&[], &now), ["Warning ServiceNotFound"]);
        assert!(reasons(&now, &now).is_empty());
    }

    #[test]
    fn success_and_recovery_are_told() {
        let before = [
            condition(condition::PROGRAMMED, "False", reason::PENDING),
            condition(condition::DEGRADED, "True", reason::KERNEL_MODULE_MISSING),
        ];
        let now = [
            condition(condition::PROGRAMMED, "True", "Programmed"),
            condition(condition::DEGRADED, "False", reason::AS_WANTED),
        ];
        assert_eq!(reasons(&before, &now), ["Normal Programmed", "Normal Recovered"]);
    }

    #[test]
    fn another_reason_is_told_although_the_state_stays() {
        let before = [condition(condition::PROGRAMMED, "False", reason::PENDING)];
        let now = [condition(
            condition::PROGRAMMED,
            "False",
            reason::IMAGE_PULL_FAILED,
        )];
        assert_eq!(reasons(&before, &now), ["Warning ImagePullFailed"]);
    }
}
