//! Our rules through iptables-nft, in a fresh network namespace of this machine's own kernel: the machines of the
//! other kernel tests have legacy iptables only. Needs root.

use std::thread;

use crd::Protocol;
use lb_agent::iptables::command::{Flavour, restore, save};
use lb_agent::iptables::{Printed, render, render_removal};
use lb_agent::table::{Family, Listener, MarkRule, Rules};
use nix::sched::{CloneFlags, unshare};

fn printed(family: Family) -> Printed {
    Printed::parse(&save(Flavour::Nft, family).expect("can be saved"))
}

fn set(family: Family, rules: &Rules) {
    restore(Flavour::Nft, family, &render(family, rules, &printed(family))).expect("is accepted");
}

/// Rules of every kind.
fn all_kinds(family: Family) -> Rules {
    let (address, sources) = match family {
        Family::V4 => ("192.0.2.1", ["192.0.2.0/24", "198.51.100.7/32"]),
        Family::V6 => ("2001:db8::1", ["2001:db8::/32", "::/0"]),
    };
    let rtp = Listener::marked(family, Protocol::UDP, 20000);
    let range = MarkRule {
        protocol: Protocol::UDP,
        first: 20000,
        last: 20063,
        destination: address.parse().ok(),
        mark: rtp.mark(),
    };
    let mut rules = Rules::marking([Listener::marked(family, Protocol::SCTP, 9)]);
    rules.marks.insert(range);
    Rules {
        masquerades: false,
        sources: Some(sources.map(|it| it.parse().expect("a network")).into()),
        rate: Some(1000),
        source_rate: Some(10),
        ..rules
    }
}

#[test]
fn nft_prints_our_rules_as_we_render_them() {
    let work = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may");
        for family in [Family::V4, Family::V6] {
            let foreign = "*filter\n-A INPUT -p tcp -m tcp --dport 9 -j DROP\nCOMMIT\n";
            restore(Flavour::Nft, family, foreign).expect("is accepted");
            let http = Listener::marked(family, Protocol::TCP, 80);
            let one = Rules::marking([http]);
            let two = Rules::marking([http, Listener::marked(family, Protocol::UDP, 53)]);
            for rules in [&Rules::default(), &two, &one, &one, &all_kinds(family), &one] {
                set(family, rules);
                assert!(printed(family).is(family, rules), "{:?}", printed(family));
            }
            restore(Flavour::Nft, family, &render_removal(&printed(family))).expect("is accepted");
            assert!(printed(family).is_empty());
            let left = save(Flavour::Nft, family).expect("can be saved");
            assert!(left.contains("--dport 9 -j DROP"), "{left}");
        }
    });
    work.join().expect("all holds");
}
