//! What others changed of ours: counted each time, and told once for as long as it goes on.

use std::collections::BTreeSet;

use tracing::warn;

use crate::finding::Finding;
use crate::sysctl::{Needs, Sysctls};

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

/// What others changed of the sysctls that we set.
#[derive(Debug, Default)]
pub struct SysctlDrift {
    drift: Drift,
    /// By which they were set at the last look.
    needs: Option<Needs>,
}

impl SysctlDrift {
    /// Those that are not as we left them. To be asked before they are set again, by these needs.
    pub fn find(&mut self, sysctls: &Sysctls, needs: &Needs) -> Vec<&'static str> {
        let before = self.needs.replace(needs.clone());
        before.map(|needs| sysctls.wrong(&needs)).unwrap_or_default()
    }

    /// Tells of those that were found and are mended, and how many these are. Those among the findings, of this look
    /// or the one before, were never right.
    pub fn tell<'a>(
        &mut self,
        found: Vec<&'static str>,
        findings: impl Iterator<Item = &'a Finding>,
    ) -> usize {
        let never_right: BTreeSet<&str> = findings.map(|finding| finding.name.as_str()).collect();
        let was_right = |name: &&str| !never_right.contains(name);
        let mended = found.into_iter().filter(was_right).map(str::to_owned);
        self.drift.tell(mended, Look::Whole)
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
