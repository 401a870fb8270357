//! Makes a verdict of several answers. Pure.
//!
//! A server begins as one that may take new connections, which is what its readiness says.

use super::Reason;

/// What is known of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was proven yet.
    #[default]
    Unproven,
    /// It may take new connections.
    Passing,
    /// It must take no new connections.
    Failing(Reason),
}

impl Verdict {
    /// Why it must take no new connections.
    #[must_use]
    pub fn failure(self) -> Option<Reason> {
        match self {
            Self::Failing(reason) => Some(reason),
            Self::Unproven | Self::Passing => None,
        }
    }
}

/// Counts answers that speak against the verdict.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    verdict: Verdict,
    /// How many in a row.
    against: u32,
}

/// How many answers in a row change the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Good ones.
    pub rise: u32,
    /// Bad ones.
    pub fall: u32,
}

impl Tally {
    /// Of a server that has to answer well before it may take new connections.
    #[must_use]
    pub fn failing(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Failing(reason),
            against: 0,
        }
    }

    /// What is known.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes an answer, and tells whether there is something new to say of the server.
    pub fn take(&mut self, answer: Result<(), Reason>, limits: Limits) -> bool {
        let before = self.verdict;
        match (self.verdict, answer) {
            (Verdict::Unproven | Verdict::Passing, Ok(())) => {
                self.against = 0;
                self.verdict = Verdict::Passing;
            }
            (Verdict::Unproven | Verdict::Passing, Err(reason)) => {
                if self.is_enough(limits.fall) {
                    self.verdict = Verdict::Failing(reason);
                }
            }
            (Verdict::Failing(_), Ok(())) => {
                if self.is_enough(limits.rise) {
                    self.verdict = Verdict::Passing;
                }
            }
            // The newest reason is the one to look for.
            (Verdict::Failing(_), Err(reason)) => {
                self.against = 0;
                self.verdict = Verdict::Failing(reason);
            }
        }
        before.failure() != self.verdict.failure()
    }

    /// One more against the verdict: is it to be changed?
    fn is_enough(&mut self, limit: u32) -> bool {
        self.against = self.against.saturating_add(1);
        let is_enough = self.against >= limit;
        if is_enough {
            self.against = 0;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { rise: 2, fall: 3 };
    const BAD: Result<(), Reason> = Err(Reason::Timeout);

    fn after(answers: &[Result<(), Reason>]) -> Verdict {
        let mut tally = Tally::default();
        for answer in answers {
            tally.take(*answer, LIMITS);
        }
        tally.verdict()
    }

    #[test]
    fn a_server_may_take_connections_until_it_is_proven_to_fail() {
        assert_eq!(after(&[]).failure(), None);
        assert_eq!(after(&[BAD, BAD]).failure(), None);
        assert_eq!(after(&[BAD, BAD, BAD]), Verdict::Failing(Reason::Timeout));
        assert_eq!(after(&[Ok(()), BAD, BAD, Ok(()), BAD, BAD]), Verdict::Passing);
    }

    #[test]
    fn it_comes_back_after_good_answers_in_a_row() {
        let failing = [BAD, BAD, BAD];
        assert!(
            after(&[&failing[..], &[Ok(()), BAD, Ok(())]].concat())
                .failure()
                .is_some()
        );
        assert_eq!(
            after(&[&failing[..], &[Ok(()), Ok(())]].concat()),
            Verdict::Passing
        );
    }

    #[test]
    fn a_new_reason_is_news_and_the_same_again_is_none() {
        let mut tally = Tally::default();
        let limits = Limits { rise: 1, fall: 1 };
        assert!(!tally.take(Ok(()), limits));
        assert!(tally.take(BAD, limits));
        assert!(!tally.take(BAD, limits));
        assert!(tally.take(Err(Reason::Status(500)), limits));
        assert!(tally.take(Ok(()), limits));
    }

    proptest! {
        #[test]
        fn a_verdict_changes_only_after_as_many_in_a_row_as_are_asked_for(
            answers in prop::collection::vec(prop::bool::ANY, 0..60), rise in 1_u32..5, fall in 1_u32..5,
        ) {
            let mut tally = Tally::default();
            let mut row = (true, 0);
            for good in answers {
                row = if row.0 == good { (good, row.1 + 1) } else { (good, 1) };
                let failed_before = tally.verdict().failure().is_some();
                let news = tally.take(if good { Ok(()) } else { BAD }, Limits { rise, fall });
                let fails = tally.verdict().failure().is_some();
                prop_assert_eq!(news, failed_before != fails);
                let limit = if good { rise } else { fall };
                let expected = if row.1 >= limit { !good } else { failed_before };
                prop_assert_eq!(fails, expected);
            }
        }
    }
}
