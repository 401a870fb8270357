//! What the page says of the profile: computed from the values alone.

use std::fmt::Write as _;

use super::{EACH, INCLUSIVE, SELF, Work};
use crate::record::Records;
use crate::spread::Number;
use crate::suite::Section;

pub(super) fn section(records: &Records) -> Section {
    let mut text = INTRODUCTION.to_owned();
    for work in Work::ALL {
        let name = work.name();
        if let Some(each) = records.of(EACH, name).values().first() {
            let of = match work {
                Work::Fill => "10,000 servers of one service, from nothing",
                Work::Changes => "Single changes of weights in that table",
                Work::Slices => "One server replaced in a slice of 100 endpoints, among 1,000",
            };
            let _ = write!(
                text,
                "\n**{of}:** {} thousand instructions for each.\n\n",
                Number(*each)
            );
        }
        text.push_str(&table(&records.of(SELF, name), &records.of(INCLUSIVE, name)));
    }
    text.push_str(MENDED);
    Section {
        title: "Profile of the agent's programming",
        text,
        ..Section::default()
    }
}

/// Both rankings side by side.
fn table(own: &Records, inclusive: &Records) -> String {
    let mut text = "| | itself | % | with what it calls | % |\n|---|---|---|---|---|\n".to_owned();
    let rows = own.0.len().max(inclusive.0.len());
    for row in 0..rows {
        let cell = |records: &Records| {
            let found = records.0.get(row);
            found.map_or_else(
                || " | ".to_owned(),
                |it| format!("`{}` | {}", it.contender.replace('|', "\\|"), Number(it.value)),
            )
        };
        let _ = writeln!(text, "| {} | {} | {} |", row + 1, cell(own), cell(inclusive));
    }
    text
}

const INTRODUCTION: &str = "Which functions take which part of the instructions, counted by callgrind. The agent's own way \
(plan, encode, send, wait for the acknowledgment; of slices also reading their text before, and the status after) runs in a \
node's kernel with IPVS; what the kernel itself does for it is outside of the count. Instructions are no time: a wait counts nothing, and memory that is far away counts no more than a \
register. *Itself* names every function, of libraries too; *with what it calls* only the agent's own.
";

const MENDED: &str = "
What was mended because of it:

- A change was read back at once, and with it all servers of its service. The kernel's acknowledgment is now taken for what it
  is; what was changed is read back a moment later, when nobody waits for it.
- Before a change the whole table was copied, the connections of every server were listed, and each server was looked up in the
  other table several times. Then both tables were walked along once, and copied only if a server drained or warmed up.
- To walk along both tables was most of what was left of a change among 10,000 servers. Tables now share what is equal of
  them, by services and by blocks of neighbouring servers: only the block that changed is compared and copied.
- The connections of servers that go were read with every change. Now they are read when a drain may end.
- While changes of a Service followed each other, a drain could end at each of them, so each read all of its servers first. Now
  a change goes first; connections are counted when there is nothing else to do, once a second, and at most a second late.
- What the kernel had acknowledged shared nothing with what was wanted, so that change after change more blocks were walked
  along again. Now both share it as soon as it is acknowledged.
- The counters of all servers of a service were copied when one of them changed. Now they lie in shared blocks too, and blocks
  are made at once of what is sorted, as it comes from slices and from the kernel.
- For each attribute of the kernel's answers an error was made and thrown away unused, and what reads them was built to be
  small. Now it is built to be fast. Slices are put in order when they come, not all of them with each change.
";
