//! How often an API server was called, by its own count.

use std::collections::BTreeMap;

/// What was called: verb, resource, and whether all namespaces were meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    /// In capitals.
    pub(super) verb: String,
    /// In the plural.
    pub(super) resource: String,
    /// `cluster`, `namespace` or `resource`.
    pub(super) scope: String,
}

impl Call {
    /// Whether it changes something.
    pub(super) fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "GET" | "LIST" | "WATCH")
    }
}

/// Calls, and how often each was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Calls(BTreeMap<Call, f64>);

impl Calls {
    /// From what the API server's `/metrics` prints.
    pub(super) fn parse(metrics: &str) -> Self {
        let mut calls = BTreeMap::new();
        for line in metrics.lines() {
            let Some((labels, value)) = line
                .strip_prefix("apiserver_request_total{")
                .and_then(|rest| rest.rsplit_once("} "))
            else {
                continue;
            };
            let label = |name: &str| {
                let value = labels
                    .split("\",")
                    .find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""));
                value.unwrap_or_default().trim_end_matches('"').to_owned()
            };
            let call = Call {
                verb: label("verb"),
                resource: label("resource"),
                scope: label("scope"),
            };
            *calls.entry(call).or_insert(0.0) += value.parse().unwrap_or(0.0);
        }
        Self(calls)
    }

    /// How many were made since then, of those wanted.
    pub(super) fn since(&self, before: &Self, wanted: impl Fn(&Call) -> bool) -> f64 {
        let new = |(call, count): (&Call, &f64)| count - before.0.get(call).unwrap_or(&0.0);
        self.0.iter().filter(|(call, _)| wanted(call)).map(new).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
# HELP apiserver_request_total Counter
apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"services\",scope=\"namespace\",subresource=\"\",verb=\"WATCH\",version=\"v1\"} 5
apiserver_request_duration_seconds_count{verb=\"WATCH\"} 7
";

    #[test]
    fn calls_are_counted_since_before() {
        let after = BEFORE.replace("} 5", "} 8")
            + "apiserver_request_total{code=\"200\",resource=\"leases\",scope=\"resource\",verb=\"PUT\"} 2\n";
        let (before, after) = (Calls::parse(BEFORE), Calls::parse(&after));
        let count = |wanted: fn(&Call) -> bool| after.since(&before, wanted);
        assert!((count(|call| !call.is_write()) - 3.0).abs() < f64::EPSILON);
        assert!((count(|call| call.is_write() && call.resource == "leases") - 2.0).abs() < f64::EPSILON);
    }
}
