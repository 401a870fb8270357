//! What `iptables-save` prints, from any hand.
#![no_main]

use lb_agent::iptables::{Printed, render, render_removal};
use lb_agent::table::{Family, Rules};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let printed = Printed::parse(text);
    let rules = Rules::default();
    for family in [Family::V4, Family::V6] {
        // Nothing foreign is in what is written, or a stranger's rule could be undone.
        let written = render(family, &rules, &printed) + &render_removal(&printed);
        for line in written.lines() {
            assert!(
                line.starts_with('*') || line == "COMMIT" || line.contains("PLB-"),
                "{line}"
            );
        }
        // What is taken for ours is what we would have written.
        if printed.is(family, &rules) {
            assert_eq!(printed, Printed::of(family, &rules));
        }
    }
});
