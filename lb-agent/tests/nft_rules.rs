//! Our rules through iptables-nft, in a fresh network namespace of this machine's own kernel: the machines of the
//! other kernel tests have legacy iptables only. Needs root.

use std::collections::BTreeSet;
use std::thread;

use crd::Protocol;
use lb_agent::iptables::command::{Flavour, restore, save};
use lb_agent::iptables::{Printed, render, render_removal};
use lb_agent::table::{Family, Listener};
use nix::sched::{CloneFlags, unshare};

fn listener(family: Family, protocol: Protocol, port: u16) -> Listener {
    Listener {
        family,
        protocol,
        port,
    }
}

fn printed(family: Family) -> Printed {
    Printed::parse(&save(Flavour::Nft, family).expect("can be saved"))
}

fn set(family: Family, marked: &BTreeSet<Listener>) {
    restore(Flavour::Nft, family, &render(marked, &printed(family))).expect("is accepted");
}

#[test]
fn nft_prints_our_rules_as_we_render_them() {
    let work = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may");
        for family in [Family::V4, Family::V6] {
            let foreign = "*filter\n-A INPUT -p tcp -m tcp --dport 9 -j DROP\nCOMMIT\n";
            restore(Flavour::Nft, family, foreign).expect("is accepted");
            let one = BTreeSet::from([listener(family, Protocol::TCP, 80)]);
            let two = BTreeSet::from([
                listener(family, Protocol::TCP, 80),
                listener(family, Protocol::UDP, 53),
            ]);
            for marked in [&BTreeSet::new(), &two, &one, &one] {
                set(family, marked);
                assert_eq!(printed(family).marked(family).as_ref(), Some(marked));
            }
            restore(Flavour::Nft, family, &render_removal(&printed(family))).expect("is accepted");
            assert!(printed(family).is_empty());
            let left = save(Flavour::Nft, family).expect("can be saved");
            assert!(left.contains("--dport 9 -j DROP"), "{left}");
        }
    });
    work.join().expect("all holds");
}
