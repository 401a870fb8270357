//! What `ipvsadm` says to the kernel, and what that answers, as `tests/golden/netns_record` recorded it.
mod heard;
mod sent;
mod values;

/// The number of the family when the messages were recorded.
const IPVS: u16 = 0x1c;

/// What one run of `ipvsadm` said and heard.
#[derive(Default)]
struct Exchange {
    sent: Vec<Vec<u8>>,
    heard: Vec<Vec<u8>>,
}

/// The exchange of `ipvsadm` with these arguments.
fn recorded(run: &str) -> Exchange {
    let all = include_str!("../tests/golden/messages");
    let run = format!("$ ipvsadm {run}");
    let mut exchange = Exchange::default();
    for line in all
        .lines()
        .skip_while(|line| **line != run)
        .skip(1)
        .take_while(|line| !line.starts_with('$'))
    {
        match line.split_once(' ') {
            Some((">", hex)) => exchange.sent.push(bytes(hex)),
            Some(("<", hex)) => exchange.heard.push(bytes(hex)),
            _ => panic!("{line}"),
        }
    }
    exchange
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}
