//! What is still to be read back of what the kernel acknowledged.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::dataplane::Error;
use crate::plan::{Spot, Step};

/// So long after the last change it is read back.
const QUIET: Duration = Duration::from_secs(1);
/// What is found changed so often in a row the kernel has never taken.
const PATIENCE: u32 = 3;

/// Spots that were changed and not read since.
#[derive(Debug, Default)]
pub(super) struct Proof {
    spots: BTreeSet<Spot>,
    due: Option<Instant>,
    /// What was to mend at the last look, and how often in a row.
    missing: Option<(String, u32)>,
}

impl Proof {
    /// These were changed now.
    pub(super) fn demand(&mut self, spots: impl Iterator<Item = Spot>, now: Instant) {
        self.spots.extend(spots);
        self.due = (!self.spots.is_empty()).then(|| now + QUIET);
    }

    /// All was read.
    pub(super) fn forget(&mut self) {
        self.spots.clear();
        self.due = None;
    }

    /// When to read back.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What to read back now.
    pub(super) fn take(&mut self) -> BTreeSet<Spot> {
        self.due = None;
        std::mem::take(&mut self.spots)
    }

    /// An error, if the kernel acknowledges a step again and again and never shows it.
    pub(super) fn check(&mut self, mending: &[Step]) -> Result<(), Error> {
        let Some(step) = mending.first().map(ToString::to_string) else {
            self.missing = None;
            return Ok(());
        };
        let times = match &self.missing {
            Some((before, times)) if *before == step => times + 1,
            _ => 1,
        };
        self.missing = Some((step.clone(), times));
        if times < PATIENCE {
            Ok(())
        } else {
            Err(Error::NotTaken(step))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Family, Listener};
    use crd::Protocol;

    fn step(port: u16) -> Step {
        Step::RemoveService(Listener::marked(Family::V4, Protocol::TCP, port))
    }

    #[test]
    fn what_was_changed_is_read_back_once() {
        let mut proof = Proof::default();
        let now = Instant::now();
        proof.demand([step(80), step(81)].iter().filter_map(Step::spot), now);
        assert_eq!(proof.due(), Some(now + QUIET));
        assert_eq!(proof.take().len(), 2);
        assert_eq!(proof.due(), None);
        proof.demand(std::iter::empty(), now);
        assert_eq!(proof.due(), None);
    }

    #[test]
    fn only_what_is_missing_again_and_again_was_never_taken() {
        let mut proof = Proof::default();
        assert!(proof.check(&[step(80)]).is_ok());
        assert!(proof.check(&[step(81)]).is_ok());
        assert!(proof.check(&[step(81)]).is_ok());
        assert!(matches!(proof.check(&[step(81)]), Err(Error::NotTaken(_))));
        assert!(proof.check(&[]).is_ok());
        assert!(proof.check(&[step(81)]).is_ok());
    }
}
