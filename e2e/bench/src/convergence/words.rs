//! What is said of convergence, beside the picture.

use std::fmt::Write as _;

use super::{AGENT, CLOCK, CONVERGENCE, RESOLUTION, TAKEN, WAITED, WRITTEN, measure};
use crate::record::{OURS, Record, Records};
use crate::spread::{Number, quantile};

/// The part of all changes that counts as slow.
const SLOW: f64 = 0.05;

/// Of each contender.
pub(super) fn table(values: &Records) -> String {
    let mut text =
        "| ms | changes | median | 90 % | 99 % | longest |\n|---|---|---|---|---|---|\n".to_owned();
    for contender in values.contenders() {
        let times = values.by(contender).values();
        let _ = write!(text, "| {contender} | {} ", times.len());
        for part in [0.5, 0.9, 0.99, 1.0] {
            let _ = write!(text, "| {} ", Number(quantile(&times, part).unwrap_or_default()));
        }
        text += "|\n";
    }
    text
}

/// Where ours spends its time.
pub(super) fn split(setting: &str, records: &Records) -> String {
    let mean = |figure| mean(&records.of(figure, setting).by(OURS).values());
    let (Some(all), Some(written), Some(own)) = (mean(CONVERGENCE), mean(WRITTEN), mean(AGENT)) else {
        return String::new();
    };
    format!(
        "\nOf ours, {} ms on average, the API server took {} ms to answer the writer. From hearing of the change to the \
         kernel the agent itself took {} ms; the rest, {} ms, is the watch and reading what it brought, partly while the \
         writer still waits.\n",
        Number(all),
        Number(written),
        Number(own),
        Number((all - own).max(0.0))
    )
}

/// Why some take long: whether they met other work of the node.
pub(super) fn waiting(setting: &str, records: &Records) -> String {
    let times = records.of(CONVERGENCE, setting).by(OURS);
    let waited = records.of(WAITED, setting).by(OURS);
    let Some(bound) = quantile(&times.values(), 1.0 - SLOW) else {
        return String::new();
    };
    let is_slow = |it: &Record| in_round(&times, it.round).is_some_and(|time| time > bound);
    let (slow, rest) = waited.0.into_iter().partition(is_slow);
    let (Some(slow), Some(rest)) = (mean(&Records(slow).values()), mean(&Records(rest).values())) else {
        return String::new();
    };
    format!(
        "\nThe slowest: with the {} % of changes that took more than {} ms the agent's threads had waited {} ms on average for \
         their node's only processor since the change before, with all others {} ms (`schedstat` of the kernel). Others \
         there, such as kubelet and containerd, work in bursts.\n",
        SLOW * 100.0,
        Number(bound),
        Number(slow),
        Number(rest)
    )
}

#[allow(clippy::cast_precision_loss, reason = "a few hundred values")]
fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The value of one round, of which there is one at most.
fn in_round(values: &Records, round: u32) -> Option<f64> {
    let found = values.0.iter().find(|it| it.round == round);
    found.map(|it| it.value)
}

/// What had taken less if this machine were nobody else's.
pub(super) fn beside_others(setting: &str, records: &Records) -> String {
    let times = records.of(CONVERGENCE, setting).by(OURS);
    let taken = records.of(TAKEN, setting).by(OURS);
    let is_calm = |time: &&Record| in_round(&taken, time.round).is_some_and(|taken| taken <= 0.0);
    let calm: Vec<f64> = times.0.iter().filter(is_calm).map(|time| time.value).collect();
    let Some(most) = quantile(&calm, 0.99) else {
        return String::new();
    };
    format!(
        "\nOthers took processors of this machine (*steal*) while {} of these {} changes were under way. Of the rest 99 of 100 \
         took at most {} ms.\n",
        times.0.len() - calm.len(),
        times.0.len(),
        Number(most)
    )
}

/// A server arrives between two looks, and counts from the later one.
pub(super) fn between_looks(setting: &str, records: &Records) -> String {
    let (times, looks) = (
        records.of(CONVERGENCE, setting).by(OURS),
        records.of(RESOLUTION, setting).by(OURS),
    );
    let earliest = |record: &Record| Some((record.value - in_round(&looks, record.round)?).max(0.0));
    let earliest: Vec<f64> = times.0.iter().filter_map(earliest).collect();
    let (Some(least), Some(most)) = (quantile(&earliest, 0.99), quantile(&times.values(), 0.99)) else {
        return String::new();
    };
    format!(
        "\nA server arrives between two looks and counts as seen by the later one. If all had arrived with the earlier one, 99 \
         of 100 of ours had taken at most {} ms; as they count it is {} ms.\n",
        Number(least),
        Number(most)
    )
}

pub(super) fn how_exact(records: &Records) -> String {
    let longest = |figure: &str, contender: Option<&str>| {
        let of = |record: &&Record| {
            record.figure == figure && contender.is_none_or(|contender| contender == record.contender)
        };
        let values: Vec<f64> = records.0.iter().filter(of).map(|record| record.value).collect();
        Number(quantile(&values, 0.99).unwrap_or_default()).to_string()
    };
    format!(
        "\nHow exact: IPVS is looked at with pauses of {} ms at ours and {} ms at kube-proxy's, which is not to be kept from \
         its work. Who looks comes before all other work of the node (SCHED_FIFO), or it would tell how long it waited \
         itself; between two looks lay at most {} ms and {} ms in 99 of 100 changes. The rules of iptables are there when \
         the command that brought them has ended, which is told by the kernel at once; whether it was the right one is looked up afterwards. A node's clock is \
         known to {} ms.\n",
        measure::LOOK.as_millis(),
        measure::RARE_LOOK.as_millis(),
        longest(RESOLUTION, Some(OURS)),
        longest(RESOLUTION, Some("kube-proxy, ipvs")),
        longest(CLOCK, None)
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn the_slowest_are_told_apart() {
        let mut records = Records::default();
        for round in 0..20 {
            let (time, waited) = if round == 19 { (90.0, 60.0) } else { (10.0, 3.0) };
            records.0.push(record(CONVERGENCE, OURS, round, time));
            records.0.push(record(WAITED, OURS, round, waited));
        }
        let text = waiting("10 endpoints", &records);
        assert!(text.contains("had waited 60.0 ms on average"), "{text}");
        assert!(text.contains("with all others 3.00 ms"), "{text}");
        assert_eq!(waiting("10 endpoints", &Records::default()), "");
    }
}
