//! What `iptables-save` prints, from any hand.
#![no_main]

use std::collections::BTreeSet;

use lb_agent::iptables::{Printed, render, render_removal};
use lb_agent::table::Family;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let printed = Printed::parse(text);
    for family in [Family::V4, Family::V6] {
        let marked = printed.marked(family).unwrap_or_default();
        // What is set over it is set, whatever was there.
        let set = Printed::parse(&render(&marked, &Printed::default()));
        assert_eq!(set.marked(family).as_ref(), Some(&marked));
    }
    // Nothing foreign is in what is written, or a stranger's rule could be undone.
    for line in render(&BTreeSet::new(), &printed)
        .lines()
        .chain(render_removal(&printed).lines())
    {
        assert!(
            line.starts_with('*') || line == "COMMIT" || line.contains("PLB-"),
            "{line}"
        );
    }
});
