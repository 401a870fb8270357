//! What stands in a file that the agent follows: all the way to what the kernel would be told.
#![no_main]

use lb_agent::addresses::Addresses;
use lb_agent::facts::Facts;
use lb_agent::iptables::{Printed, render};
use lb_agent::plan::plan;
use lb_agent::table::Table;
use lb_agent::trust::Trust;
use lb_agent::ways::Ways;
use lb_agent::{file, kernel};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(learnt) = file::parse(text) else { return };
    let mut facts = Facts::default();
    for fact in learnt {
        facts.take(fact, &Trust::All);
    }
    let own = [[10, 1, 0, 1].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()];
    let Some(wanted) = facts.wanted(&Addresses::from_iter(own), &Ways::default()) else {
        panic!("a valid file says all that is needed");
    };
    let table = wanted.desired.table;
    for step in plan(&Table::default(), &table) {
        for command in kernel::commands(&step).expect("the kernel can be told of it") {
            drop(command.ipvsadm());
        }
        drop(step.to_string());
    }
    for (family, rules) in &table.rules {
        // A save prints where a rule stands, not that it was inserted.
        let text = render(*family, rules, &Printed::default()).replace("\n-I ", "\n-A ");
        assert!(Printed::parse(&text).is(*family, rules));
    }
    assert!(plan(&table, &table).is_empty());
});
