//! New connections over the number of servers. A server is chosen once a connection: iptables asks rule after rule for
//! it, IPVS its table.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use super::wrk::Load;
use super::{FIGURE, SECONDS, Scene, rounds, section};
use crate::plan::Plan;
use crate::record::{OURS, Records};
use crate::site::contender::Contender;
use crate::site::{Form, Site};
use crate::spread::Spread;
use crate::suite::Section;

/// The balancer's kernel is its own, each request comes by a connection of its own, and servers are many.
pub(super) const SETTING: &str = "new-connections";

const CONTENDERS: [Contender; 3] = [Contender::Ours, Contender::IpvsadmMark, Contender::Dnat];

/// Connections that have ended are remembered for two minutes, of which a small machine has no room for as many as come
/// here; and IPVS looks them up in as large a table as connection tracking does.
const ROOM: &str = "modprobe ip_vs conn_tab_bits=16\nmodprobe nf_conntrack\n\
                    echo 65536 >/sys/module/nf_conntrack/parameters/hashsize\n\
                    echo 262144 >/proc/sys/net/netfilter/nf_conntrack_max\n";

/// The client has ports for some seconds, and then takes those again that it closed a second ago or earlier.
const PORTS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535"),
    ("/proc/sys/net/ipv4/tcp_tw_reuse", "1"),
];

pub(super) fn measure(plan: Plan, records: &mut Records) -> Result<()> {
    let sizes: &[usize] = plan.pick(&[10, 1_000, 10_000], &[1_000]);
    let load = Load {
        connections: 64,
        seconds: SECONDS,
        is_fresh: true,
    };
    let most = sizes.last().copied().unwrap_or(1);
    let mut site = Site::crowded(Form::Machines, &CONTENDERS, most)?;
    site.everywhere(ROOM)?;
    site.link().client().within(|| {
        let set = |(path, value)| fs::write(path, value).with_context(|| path);
        PORTS.into_iter().try_for_each(set)
    })?;
    site.serve(None)?;
    for &servers in sizes {
        println!("{SETTING}: {servers} servers");
        site.balance(servers)?;
        let scene = Scene {
            setting: SETTING,
            servers,
            load,
            rarely: 1,
        };
        rounds(&site, plan.pick(5, 1), scene, records)?;
    }
    Ok(())
}

/// Adds what is told of it, if it was measured.
pub(super) fn tell(records: &Records, section: &mut Section) -> Result<()> {
    let values = records.of(FIGURE, SETTING);
    let sizes = values.xs();
    let (Some(least), Some(most)) = (sizes.first(), sizes.last()) else {
        return Ok(());
    };
    for size in &sizes {
        let what = format!("new connections, {size} servers, own kernel");
        section
            .rows
            .extend(section::rows(&what, &values.at(*size), section::target));
    }
    let picture = section::picture(
        &values,
        ("New connections/s over the number of servers", "servers"),
    )?;
    section.pictures.push(("new-connections".to_owned(), picture));
    let ratio = |size: &f64| {
        let values = values.at(*size);
        Spread::ratio_text(&values.by(OURS), &values.by(Contender::Dnat.name()))
    };
    let _ = write!(
        section.text,
        "![New connections/s over the number of servers](new-connections.svg)\n\nThe same machines, but each request comes by a \
         connection of its own, and one pod has as many addresses as if it were that many servers (*new connections*). \
         iptables chooses by a rule for each server, as kube-proxy does it, and asks half of them in the mean; IPVS (`rr`) \
         takes the next one. So DNAT falls with the number of servers, and IPVS does not: ours reaches {} × the new \
         connections of DNAT with {least} servers, and {} × with {most}. Connection tracking and IPVS have room for all \
         connections of two minutes.\n\n",
        ratio(least),
        ratio(most),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    #[test]
    fn the_fewest_and_the_most_servers_are_told() {
        let record = |(contender, x, value): (&str, f64, f64)| Record {
            figure: FIGURE.to_owned(),
            setting: SETTING.to_owned(),
            contender: contender.to_owned(),
            x,
            round: 0,
            value,
            unit: "requests/s".to_owned(),
        };
        let (dnat, values) = (Contender::Dnat.name(), [(OURS, 10.0, 9.0), (OURS, 1000.0, 9.0)]);
        let values = values
            .into_iter()
            .chain([(dnat, 10.0, 10.0), (dnat, 1000.0, 3.0)]);
        let mut section = Section::default();
        tell(&Records(values.map(record).collect()), &mut section).unwrap();
        for part in [
            "ours reaches 0.900 [",
            "with 10 servers, and 3.00 [",
            "with 1000.",
        ] {
            assert!(section.text.contains(part), "{part} in {}", section.text);
        }
        let names: Vec<&str> = section.rows.iter().map(|row| row.what.as_str()).collect();
        assert_eq!(
            names,
            [
                "new connections, 10 servers, own kernel",
                "new connections, 1000 servers, own kernel"
            ]
        );
        let mut nothing = Section::default();
        tell(&Records::default(), &mut nothing).unwrap();
        assert!(nothing.text.is_empty() && nothing.pictures.is_empty());
    }
}
