//! When requests are due. Pure.

use std::time::Duration;

/// A constant rate over connections that take turns.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Requests a second, of all connections.
    pub rate: f64,
    /// How many connections there are.
    pub connections: u32,
}

impl Schedule {
    /// How long after the start a connection's next request is due. The first of them counts as 0.
    #[must_use]
    pub fn due(&self, connection: u32, request: u32) -> Duration {
        let number = f64::from(request) * f64::from(self.connections) + f64::from(connection);
        Duration::try_from_secs_f64(number / self.rate).unwrap_or(Duration::MAX)
    }

    /// A connection's requests that are due before an end.
    pub fn requests(self, connection: u32, end: Duration) -> impl Iterator<Item = Duration> {
        let all = (0..).map(move |request| self.due(connection, request));
        all.take_while(move |due| *due < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        rate: 1000.0,
        connections: 4,
    };

    #[test]
    fn connections_take_turns_at_equal_steps() {
        let mut due: Vec<Duration> = (0..4)
            .flat_map(|connection| SCHEDULE.requests(connection, Duration::from_millis(100)))
            .collect();
        due.sort();
        assert_eq!(due.len(), 100);
        let steps = due.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        assert!(
            steps.clone().all(|step| step.as_micros().abs_diff(1000) <= 1),
            "{due:?}"
        );
    }

    #[test]
    fn slow_answers_change_nothing_about_when_requests_are_due() {
        assert_eq!(SCHEDULE.due(1, 0), Duration::from_millis(1));
        assert_eq!(SCHEDULE.due(1, 1000), Duration::from_millis(4001));
        let none = Schedule {
            rate: 0.0,
            ..SCHEDULE
        };
        assert_eq!(none.requests(1, Duration::from_secs(1)).count(), 0);
    }
}
