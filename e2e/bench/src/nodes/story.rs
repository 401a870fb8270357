//! What the values tell, in words, a table and a picture.

use std::fmt::Write as _;

use anyhow::Result;
use e2e::lab::cluster::Backend;

use super::stage::KUBE_PROXY;
use super::wrk::CONNECTIONS;
use super::{BALANCER, COMMON, FAILED, LIMIT, LOAD, MAIN, SERVERS, SHARE, THROUGHPUT};
use crate::plot::{self, Axes, Line};
use crate::record::{OURS, Records};
use crate::row::{Row, Target};
use crate::spread::{Number, Spread};
use crate::suite::Section;

/// What ours wants to reach beside each rival.
const TARGETS: [(&str, Target); 5] = [
    ("ipvsadm", Target::AtLeast(1.0)),
    ("dnat", Target::AtLeast(1.05)),
    (KUBE_PROXY, Target::AtLeast(1.05)),
    ("nginx-stream", Target::AtLeast(2.5)),
    ("nginx-http", Target::AtLeast(2.5)),
];

/// The part of the page.
pub fn section(records: &Records) -> Result<Section> {
    let text = [
        HOW.replace("CONNECTIONS", &CONNECTIONS.to_string()),
        pods(records),
        format!("![requests a second over the number of web pods]({PICTURE}.svg)"),
        table(records),
        limits(records).unwrap_or_default(),
        costs(records),
        copied(records).unwrap_or_default(),
        failures(records),
        NOT_HERE.to_owned(),
    ];
    Ok(Section {
        title: "Throughput across nodes",
        rows: rows(records),
        text: text.join("\n\n"),
        pictures: vec![(PICTURE.to_owned(), picture(records)?)],
    })
}

const PICTURE: &str = "across-nodes";

const HOW: &str = "A real cluster of three nodes. All balancers are on one of them, each in a pod of its own and one \
loaded at a time; web pods (nginx that answers with the pod's address) are on the two others; wrk is outside of the \
cluster, one hop from the nodes, and keeps CONNECTIONS connections busy. It asks the balancer's pod by its address; \
`kube-proxy` is the node port of an ordinary Service on the same node, and so the only one that needs no pod. \
`ipvsadm` and `dnat` (iptables, `statistic`) were typed by hand, `keepalived` makes the same IPVS table by itself. \
nginx keeps connections to web pods open (`nginx-http`) or passes connections on (`nginx-stream`), as haproxy does.";

const NOT_HERE: &str = "TUN and DR are not in this comparison: in a cluster they need an address that belongs to the \
balancer (VirtualIP), without which the agent refuses them.";

/// Ours beside each rival: with every backend where there is a target, else with the main one.
fn rows(records: &Records) -> Vec<Row> {
    let mut rows = Vec::new();
    for setting in records.settings(THROUGHPUT) {
        let values = records.of(THROUGHPUT, setting).at(count(COMMON));
        for rival in values.contenders() {
            let target = target(rival);
            if target.is_some() || setting == MAIN.name() {
                let what = format!("Throughput across nodes, {setting}, {COMMON} web pods");
                rows.extend(Row::compare(&what, &values, rival, target).filter(|_| rival != OURS));
            }
        }
    }
    rows
}

fn target(rival: &str) -> Option<Target> {
    let known = TARGETS.iter().find(|(name, _)| *name == rival);
    known.map(|(_, target)| *target)
}

fn picture(records: &Records) -> Result<String> {
    let values = records.of(THROUGHPUT, MAIN.name());
    let line = |contender: &str| {
        let mine = values.by(contender);
        let median = |x: f64| Some((x, median(&mine.at(x))?));
        Line {
            name: contender.to_owned(),
            points: mine.xs().into_iter().filter_map(median).collect(),
        }
    };
    let lines: Vec<Line> = values.contenders().into_iter().map(line).collect();
    let title = format!("Throughput across nodes, flannel {MAIN}, medians");
    let axes = Axes {
        title: &title,
        x: "web pods",
        y: "requests/s",
        x_by_factors: false,
        y_by_factors: false,
    };
    plot::lines(axes, &lines)
}

/// What a web pod may do.
fn pods(records: &Records) -> String {
    let limit = records.of(LIMIT, MAIN.name()).values();
    let limit = limit.first().copied().unwrap_or_default();
    format!(
        "A web pod answers at most {limit} requests a second and lets others wait, as a pod does that has a small share \
         of a processor. That is 1/{SHARE} of what the rules (`dnat`) reached before with {COMMON} pods that had no limit; \
         so throughput can grow with the pods, until the balancer is full."
    )
}

/// Every contender with every backend, at the number of web pods that all of them have.
fn table(records: &Records) -> String {
    let settings = records.settings(THROUGHPUT);
    let mut text = format!("Requests a second with {COMMON} web pods, median [middle half]:\n\n| |");
    for setting in &settings {
        let _ = write!(text, " {setting} |");
    }
    let _ = write!(
        text,
        " processor time of the balancer's node for a request |\n|---|"
    );
    text += &"---|".repeat(settings.len() + 1);
    for contender in records.of(THROUGHPUT, MAIN.name()).contenders() {
        let _ = write!(text, "\n| {contender} |");
        for setting in &settings {
            let rate = Spread::of(&common(records, THROUGHPUT, setting, contender).values());
            let _ = write!(
                text,
                " {} |",
                rate.map_or_else(String::new, |rate| rate.to_string())
            );
        }
        let cost = Spread::of(&common(records, BALANCER, MAIN.name(), contender).values());
        let _ = write!(
            text,
            " {} |",
            cost.map_or_else(String::new, |cost| format!("{cost} µs"))
        );
    }
    text
}

/// Whose processor is the bottleneck: the time of each for a request, times requests a second.
fn limits(records: &Records) -> Option<String> {
    let busy = |contender: &str| {
        let setting = MAIN.name();
        let rate = median(&common(records, THROUGHPUT, setting, contender))? / 1e4;
        let part = |figure| Some(rate * median(&common(records, figure, setting, contender))?);
        Some((part(BALANCER)?, part(SERVERS)?, part(LOAD)?))
    };
    let mut text = format!(
        "What limits them (flannel {MAIN}, {COMMON} web pods), by the processor time that the machine's own kernel counted: "
    );
    let contenders = [OURS, KUBE_PROXY, "nginx-http"];
    let parts: Vec<String> = contenders
        .iter()
        .filter_map(|contender| {
            let (balancer, servers, load) = busy(contender)?;
            Some(format!(
                "with {contender} the balancer's node used {} % of a processor, both nodes of web pods together {} %, wrk {} %",
                Number(balancer),
                Number(servers),
                Number(load)
            ))
        })
        .collect();
    let (balancer, servers, _) = busy(OURS)?;
    text += &parts.join("; ");
    let verdict = if balancer >= servers / 2.0 {
        "With ours the balancer's node has more to do than each of the others."
    } else {
        "With ours the nodes of web pods have more to do than the balancer's: then throughput shows differences between \
         balancers smaller than they are, and the processor time of the balancer's node is the better measure."
    };
    let _ = write!(text, ". {verdict}");
    text += &together(records).unwrap_or_default();
    Some(text)
}

/// What a request takes of all nodes and of the load, which share the machine's processors.
fn together(records: &Records) -> Option<String> {
    let all = |contender: &str| {
        let part = |figure| median(&common(records, figure, MAIN.name(), contender));
        Some(part(BALANCER)? + part(SERVERS)? + part(LOAD)?)
    };
    let ours = all(OURS)?;
    let rival = |name: &str| Some(Number(all(name)? / ours));
    let (stream, http) = (rival("nginx-stream")?, rival("nginx-http")?);
    Some(format!(
        " All of these share the processors of one machine. A request by ours takes {} µs of them together, one by \
         nginx-stream {stream} × and one by nginx-http {http} × of that: once the processors are full, throughputs differ by \
         no more.",
        Number(ours)
    ))
}

/// What a request costs the balancer's node with ours, beside rivals.
fn costs(records: &Records) -> String {
    let mut text = COSTS.to_owned();
    let settings = records.settings(BALANCER);
    for setting in &settings {
        let _ = write!(text, " {setting} |");
    }
    let _ = write!(text, "\n|---|{}", "---|".repeat(settings.len()));
    for rival in records.of(BALANCER, MAIN.name()).contenders() {
        if rival == OURS {
            continue;
        }
        let _ = write!(text, "\n| {rival} |");
        for setting in &settings {
            let of = |contender| common(records, BALANCER, setting, contender);
            let _ = write!(text, " {} |", Spread::ratio_text(&of(OURS), &of(rival)));
        }
    }
    let of = |contender| common(records, BALANCER, MAIN.name(), contender);
    let beside_proxy = |contender| Spread::of_ratios(&of(contender), &of(KUBE_PROXY));
    let is_behind = beside_proxy(OURS).is_some_and(|ratio| ratio.median > 1.0);
    if let Some(pod) = beside_proxy("dnat").filter(|_| is_behind) {
        let _ = write!(
            text,
            "\n\nkube-proxy's rules are in the node's own namespace: a packet passes its stack once. On its way to and \
             from a pod it passes the node's stack twice, a bridge, a pair of devices and the pod's stack, whoever \
             balances there: by {MAIN} the same kind of rules in a pod (`dnat`) take {pod} × what they take on the node."
        );
    }
    text
}

const COSTS: &str = "Processor time of the balancer's node for a request, ours ÷ each rival's, in pairs of one round; where 1 lies \
within the middle half, this run cannot tell them apart. `ipvsadm` and `keepalived` have the same services and servers in the \
kernel as ours, so what differs is a rule or two, and best seen where the balancer has a processor of its own \
(*Throughput*, *Where a packet's time goes*).\n\n| |";

/// How far ahead of nginx anybody could be on udp, where flannel itself takes most of the time.
fn copied(records: &Records) -> Option<String> {
    let cost =
        |backend: Backend, contender: &str| median(&common(records, BALANCER, backend.name(), contender));
    let whole = cost(Backend::Udp, OURS)?;
    let flannel = whole - cost(MAIN, OURS)?;
    let most = |rival: &str| Some(cost(Backend::Udp, rival)? / flannel);
    let (stream, http) = (most("nginx-stream")?, most("nginx-http")?);
    (flannel > 0.0).then(|| {
        format!(
            "By udp a program of flannel's copies each packet on each node. For a request ours takes {} µs of the \
             balancer's node by udp, {} µs more than by {MAIN}: so much is flannel's. nginx-stream takes {} × of that \
             and nginx-http {} ×, so a balancer that takes nothing at all could not be further ahead of them by udp.",
            Number(whole),
            Number(flannel),
            Number(stream),
            Number(http)
        )
    })
}

fn failures(records: &Records) -> String {
    let failed: Vec<String> = records
        .settings(FAILED)
        .into_iter()
        .flat_map(|setting| {
            let values = records.of(FAILED, setting);
            let names: Vec<String> = values.contenders().into_iter().map(str::to_owned).collect();
            names.into_iter().filter_map(move |name| {
                let sum: f64 = values.by(&name).values().iter().sum();
                (sum > 0.0).then(|| format!("{name} on {setting} {sum:.0}"))
            })
        })
        .collect();
    if failed.is_empty() {
        "No request failed.".to_owned()
    } else {
        format!(
            "Requests that failed, of all rounds together: {}.",
            failed.join(", ")
        )
    }
}

fn common(records: &Records, figure: &str, setting: &str, contender: &str) -> Records {
    records.of(figure, setting).by(contender).at(count(COMMON))
}

#[allow(clippy::cast_precision_loss, reason = "a handful of pods")]
fn count(pods: usize) -> f64 {
    pods as f64
}

fn median(records: &Records) -> Option<f64> {
    Spread::of(&records.values()).map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    fn values(figure: &str, setting: &str, contender: &str, value: f64) -> Record {
        Record {
            figure: figure.to_owned(),
            setting: setting.to_owned(),
            contender: contender.to_owned(),
            x: 8.0,
            round: 0,
            value,
            unit: "requests/s".to_owned(),
        }
    }

    fn some(balancer: f64, servers: f64) -> Records {
        let mut all = Vec::new();
        for (contender, rate) in [
            (OURS, 2000.0),
            ("ipvsadm", 1990.0),
            (KUBE_PROXY, 2500.0),
            ("haproxy", 500.0),
            ("nginx-stream", 500.0),
            ("nginx-http", 250.0),
        ] {
            for setting in ["vxlan", "udp"] {
                all.push(values(THROUGHPUT, setting, contender, rate));
                all.push(values(BALANCER, setting, contender, balancer * 1000.0 / rate));
                all.push(values(SERVERS, setting, contender, servers));
                all.push(values(LOAD, setting, contender, 10.0));
                all.push(values(FAILED, setting, contender, 0.0));
            }
        }
        Records(all)
    }

    #[test]
    fn rivals_without_a_target_are_named_for_the_main_backend_alone() {
        let rows = rows(&some(400.0, 300.0));
        let named: Vec<(&str, &str)> = rows
            .iter()
            .map(|row| (row.what.as_str(), row.rival.as_str()))
            .collect();
        let (vxlan, udp) = (
            "Throughput across nodes, vxlan, 8 web pods",
            "Throughput across nodes, udp, 8 web pods",
        );
        let expected = [
            (vxlan, "ipvsadm"),
            (vxlan, KUBE_PROXY),
            (vxlan, "haproxy"),
            (vxlan, "nginx-stream"),
            (vxlan, "nginx-http"),
            (udp, "ipvsadm"),
            (udp, KUBE_PROXY),
            (udp, "nginx-stream"),
            (udp, "nginx-http"),
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn costs_are_compared_with_every_backend() {
        let text = costs(&some(400.0, 300.0));
        let line = "| haproxy | 0.250 [0.250 to 0.250] | 0.250 [0.250 to 0.250] |\n";
        assert!(text.contains("| | vxlan | udp |\n|---|---|---|\n"), "{text}");
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn the_text_says_what_limits() {
        let text = section(&some(400.0, 300.0)).unwrap().text;
        assert!(text.contains("more to do than each of the others"), "{text}");
        assert!(
            text.contains("used 40.0 % of a processor, both nodes of web pods together 60.0 %"),
            "{text}"
        );
        assert!(text.contains("No request failed."), "{text}");
        let together =
            "takes 510 µs of them together, one by nginx-stream 2.18 × and one by nginx-http 3.75 × of that";
        assert!(text.contains(together), "{text}");
        let text = section(&some(100.0, 300.0)).unwrap().text;
        assert!(text.contains("smaller than they are"), "{text}");
    }

    #[test]
    fn what_flannel_copies_bounds_everybody() {
        let mut records = Records::default();
        for (backend, contender, cost) in [
            ("vxlan", OURS, 100.0),
            ("udp", OURS, 600.0),
            ("udp", "nginx-stream", 1000.0),
            ("udp", "nginx-http", 1200.0),
        ] {
            records.0.push(values(BALANCER, backend, contender, cost));
        }
        let text = copied(&records).unwrap();
        assert!(text.contains("500 µs more than by vxlan"), "{text}");
        assert!(text.contains("nginx-stream takes 2.00 × of that"), "{text}");
        assert_eq!(copied(&some(400.0, 300.0)), None);
    }
}
