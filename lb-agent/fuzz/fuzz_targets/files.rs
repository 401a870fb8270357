//! What stands in a file that the agent follows: all the way to what the kernel would be told.
#![no_main]

use std::collections::BTreeSet;

use lb_agent::endpoints::Trust;
use lb_agent::facts::Facts;
use lb_agent::iptables::{Printed, render};
use lb_agent::plan::plan;
use lb_agent::table::{Family, Table};
use lb_agent::{file, kernel};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(learnt) = file::parse(text) else { return };
    let mut facts = Facts::default();
    for fact in learnt {
        facts.take(fact, &Trust::All);
    }
    let families = BTreeSet::from([Family::V4, Family::V6]);
    let Some(wanted) = facts.wanted(&families) else {
        panic!("a valid file says all that is needed");
    };
    let table = wanted.desired.table;
    for step in plan(&Table::default(), &table) {
        kernel::command(&step).expect("the kernel can be told of it");
        drop(step.to_string());
    }
    for (family, marked) in &table.marked {
        let printed = Printed::parse(&render(marked, &Printed::default()));
        assert_eq!(printed.marked(*family).as_ref(), Some(marked));
    }
    assert!(plan(&table, &table).is_empty());
});
