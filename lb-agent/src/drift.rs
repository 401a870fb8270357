//! What others changed of ours: counted each time, and told once for as long as it goes on.

use std::collections::BTreeSet;

use tracing::warn;

/// So many changes are told one by one; of more, only their number.
const TOLD: usize = 16;

/// Remembers what was told, so that two hands that fight over a setting don't fill the log.
#[derive(Debug, Default)]
pub struct Drift {
    known: BTreeSet<String>,
}

/// How much of ours was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// All: what is not among what was found is over.
    Whole,
    /// A part.
    Part,
}

impl Drift {
    /// Tells of what was found changed, and will be mended; how many changes these are.
    pub fn tell(&mut self, found: impl IntoIterator<Item = String>, look: Look) -> usize {
        let found: BTreeSet<String> = found.into_iter().collect();
        let count = found.len();
        let new: Vec<&String> = found.difference(&self.known).collect();
        for change in new.iter().take(TOLD) {
            warn!(mending = %change, "drift: somebody changed what is ours");
        }
        if new.len() > TOLD {
            warn!(more = new.len() - TOLD, "drift: somebody changed what is ours");
        }
        match look {
            Look::Whole => self.known = found,
            Look::Part => self.known.extend(found),
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(drift: &mut Drift, found: &[&str], look: Look) -> usize {
        drift.tell(found.iter().map(ToString::to_string), look)
    }

    #[test]
    fn each_change_is_counted_and_its_end_is_noticed() {
        let mut drift = Drift::default();
        assert_eq!(tell(&mut drift, &["a", "b"], Look::Whole), 2);
        assert_eq!(tell(&mut drift, &["a"], Look::Whole), 1);
        assert_eq!(drift.known.len(), 1, "b is over");
        assert_eq!(tell(&mut drift, &["c"], Look::Part), 1);
        assert_eq!(drift.known.len(), 2, "a may go on elsewhere");
        assert_eq!(tell(&mut drift, &[], Look::Whole), 0);
        assert!(drift.known.is_empty());
    }
}
