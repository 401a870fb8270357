//! What clients notice when something is killed, replaced or away.

mod clients;
mod events;
mod stage;

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context, Result};
use e2e::cluster::{Agent, Space, in_namespace, install};

use crate::plan::Plan;
use crate::record::{OURS, Record, Records};
use crate::row::Row;
use crate::spread::{Number, Spread, quantile};
use crate::suite::{Section, Suite};
use clients::{Clients, INTERVAL, Kind};
use events::{Event, VICTIM, Way};
use stage::Stage;

/// The suite.
pub struct Disruption;

const GAP: &str = "longest gap";
const LOST: &str = "requests lost";
const MADE: &str = "requests made";
/// How often an event has happened.
const TIMES: &str = "times";

const BY_SERVICE: &str = "ours, by its Service";
const RIVAL: &str = "kube-proxy";

fn setting(event: &str, kind: Kind) -> String {
    format!("{event}, {}", kind.name())
}

impl Suite for Disruption {
    fn name(&self) -> &'static str {
        "disruption"
    }

    fn needs_lab(&self) -> bool {
        true
    }

    fn measure(&self, plan: Plan, records: &mut Records) -> Result<()> {
        in_namespace("disruption", |space| {
            let outcome = measure(space, plan, records);
            // An event may have left another version.
            outcome.and(install::ensure_installed())
        })
    }

    fn section(&self, records: &Records) -> Result<Section> {
        let mut text = introduction();
        let mut rows = Vec::new();
        let mut absent = Vec::new();
        for event in &events::ALL {
            let of = Kind::ALL.map(|kind| (kind, records.of(GAP, &setting(event.name, kind))));
            if of.iter().all(|(_, gaps)| gaps.0.is_empty()) {
                absent.push(event.name);
                continue;
            }
            for (kind, gaps) in of {
                let what = format!("{}: longest gap, {}", event.name, kind.name());
                rows.extend(Row::compare(&what, &gaps, RIVAL, None));
                lines(&mut text, event, kind, records);
            }
        }
        if !absent.is_empty() {
            let _ = write!(text, "\nNot measured in this run: {}.\n", absent.join(", "));
        }
        text += &differences();
        Ok(Section {
            title: "Disruption: what clients notice",
            rows,
            text,
            ..Section::default()
        })
    }
}

fn measure(space: &Space<'_>, plan: Plan, records: &mut Records) -> Result<()> {
    let balancers = plan.pick(5, 1);
    let stage = Stage::make(space, balancers)?;
    let start = Instant::now();
    let rounds = |event: &Event| event.rounds(plan, balancers);
    for round in 0..events::ALL.iter().map(rounds).max().unwrap_or_default() {
        for event in events::ALL.iter().filter(|event| round < rounds(event)) {
            if !plan.has_time(start.elapsed()) {
                return Ok(());
            }
            let begin = Instant::now();
            one(&stage, event, round, records).with_context(|| event.name)?;
            println!("round {round}: {} in {} s", event.name, begin.elapsed().as_secs());
        }
    }
    Ok(())
}

/// One event, with clients that go on from before until all is as it was.
fn one(stage: &Stage<'_, '_>, event: &Event, round: usize, records: &mut Records) -> Result<()> {
    let agents = stage.agents(round)?;
    let each = event.scope.clients();
    let mut clients = Clients::new();
    for (balancer, pair) in agents.iter().enumerate() {
        for client in 0..each {
            let number = u32::try_from((round * agents.len() + balancer) * each + client)?;
            for (place, way) in event.ways.iter().enumerate() {
                let address = match way {
                    Way::Agent => pair[client % pair.len()].at(80),
                    Way::Service => stage.service(balancer)?,
                    Way::Elsewhere => elsewhere(pair)?.at(80),
                };
                clients.start(if place == 0 { OURS } else { BY_SERVICE }, number, address);
            }
            clients.start(RIVAL, number, stage.rival());
        }
    }
    clients.wait_answered(5)?;
    (event.run)(stage, &agents)?;
    clients.wait_answered(5)?;
    clients.finish(event.name, records)?;
    records.0.push(happened(event, agents.len(), round)?);
    Ok(())
}

/// How often it has happened in a round.
fn happened(event: &Event, balancers: usize, round: usize) -> Result<Record> {
    Ok(Record {
        figure: TIMES.to_owned(),
        setting: event.name.to_owned(),
        contender: "all".to_owned(),
        x: 0.0,
        round: u32::try_from(round)?,
        value: f64::from(u32::try_from(event.scope.times(balancers))?),
        unit: "times".to_owned(),
    })
}

fn elsewhere(pair: &[Agent; 2]) -> Result<&Agent> {
    pair.iter()
        .find(|agent| agent.node != VICTIM)
        .context("both agents are on the node that is to die")
}

fn introduction() -> String {
    format!(
        "Clients outside the cluster ask {} ms after each answer again, until everything is as before the event; a gap \
         is the longest time from one answer to the next, so it is never less than this pause and an answer's time. A \
         request is lost if it is refused, reset, or not answered in 5 s. Several balancers, each with two agents and \
         with clients of its own, take part. What happens to an agent happens to one after the other on each node, and each \
         time is a sample of its balancer's clients. What happens to the cluster is noticed by the clients of all balancers \
         at the same time, so it gives several samples each time, which depend on each other. Ours checks its servers \
         by TCP every second and gives up on one after two failures, which kube-proxy cannot do. Clients of kube-proxy use \
         the address of a plain Service of the same servers, by way of a node; clients of ours the address of an agent, or, \
         where it says so, the Service that the operator makes in \
         front of both agents, which is served by kube-proxy again.\n\n\
         | event | times | client | of | samples | longest gap, ms, median [middle half] | worst | lost, of all |\n\
         |---|---|---|---|---|---|---|---|\n",
        INTERVAL.as_millis()
    )
}

fn lines(text: &mut String, event: &Event, kind: Kind, records: &Records) {
    let setting = setting(event.name, kind);
    let (gaps, lost, made) = (
        records.of(GAP, &setting),
        records.of(LOST, &setting),
        records.of(MADE, &setting),
    );
    let times: f64 = records.of(TIMES, event.name).values().iter().sum();
    for contender in gaps.contenders() {
        let values = gaps.by(contender).values();
        let (Some(spread), Some(worst)) = (Spread::of(&values), quantile(&values, 1.0)) else {
            continue;
        };
        let sum = |of: &Records| of.by(contender).values().iter().sum::<f64>();
        let _ = writeln!(
            text,
            "| {} | {times} | {} | {contender} | {} | {spread} | {} | {} of {} |",
            event.name,
            kind.name(),
            values.len(),
            Number(worst),
            sum(&lost),
            sum(&made)
        );
    }
}

/// What is not the same for both.
fn differences() -> String {
    let mut text = String::from(
        "\nkube-proxy has no agents of its own to lose but the one on each node, so what happens to it is the nearest, \
         shortly before it happens to ours:\n\n",
    );
    for event in events::ALL.iter().filter(|event| !event.to_rival.is_empty()) {
        let way = if event.ways[0] == Way::Service {
            "; ours by its Service"
        } else {
            ""
        };
        let _ = writeln!(text, "- {}: {}{way}.", event.name, event.to_rival);
    }
    text + SHARED
}

const SHARED: &str = "\nA node has one emulated processor. While a container starts on it, the server on the same node answers late \
too, whoever balances: a client meets all three servers in turn, so gaps of one event are alike for ours and for kube-proxy as \
far as they come from that.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_counted() {
        let roll = events::ALL
            .iter()
            .find(|event| event.name == "servers rolled")
            .unwrap();
        let mut records = Records(vec![happened(roll, 5, 0).unwrap(), happened(roll, 5, 1).unwrap()]);
        for (contender, round, lost) in [(OURS, 0, 0.0), (OURS, 1, 0.0), (RIVAL, 0, 2.0), (RIVAL, 1, 1.0)] {
            for (figure, value) in [(GAP, 160.0), (LOST, lost), (MADE, 100.0)] {
                records.0.push(Record {
                    figure: figure.to_owned(),
                    setting: setting("servers rolled", Kind::Short),
                    contender: contender.to_owned(),
                    x: 0.0,
                    round,
                    value,
                    unit: "ms".to_owned(),
                });
            }
        }
        let section = Disruption.section(&records).unwrap();
        let line =
            "| servers rolled | 2 | new connections | kube-proxy | 2 | 160 [160 to 160] | 160 | 3 of 200 |";
        assert!(section.text.contains(line), "{}", section.text);
        assert!(
            section.text.contains("API server away, node of a server killed."),
            "{}",
            section.text
        );
        assert_eq!(section.rows.len(), 1);
    }
}
