//! What the kernel answers over netlink: from the bytes of a datagram to entries or an error.
#![no_main]

use std::net::SocketAddr;
use std::num::NonZeroU32;

use ipvs::{Batch, Client, Command, Destination, Error, Family, ServiceId};

/// The answer to the question for IPVS's number: it is 28, as in the recorded messages.
const FAMILY: &[u8] = &[
    28, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 6, 0, 1, 0, 28, 0, 0, 0, 36, 0, 0, 0, 2, 0,
    0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

// The first byte says what is asked; the others are the answer.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((question, heard)) = bytes.split_first() else {
        return;
    };
    let asked = match question % 7 {
        0 => Client::hearing([heard.to_vec()]).map(drop),
        question => {
            let mut client = Client::hearing([FAMILY.to_vec(), heard.to_vec()]).expect("well prepared");
            ask(&mut client, question)
        }
    };
    if let Err(error) = asked {
        drop(error.to_string());
    }
});

fn ask(client: &mut Client, question: u8) -> Result<(), Error> {
    let v4 = ServiceId::Mark {
        family: Family::V4,
        mark: NonZeroU32::MIN,
    };
    let v6 = ServiceId::Mark {
        family: Family::V6,
        mark: NonZeroU32::MIN,
    };
    match question {
        1 => drop(client.services()?),
        2 => drop(client.destinations(&v4)?),
        3 => drop(client.destinations(&v6)?),
        4 => drop(client.config()?),
        5 => drop(client.info()?),
        _ => {
            let server = |octet| Destination::masquerade(SocketAddr::from(([10, 0, 0, octet], 80)), 1);
            let batch: Batch = (1..=3)
                .map(|octet| Command::AddDestination(v4, server(octet)))
                .collect();
            for rejection in client.apply(&batch)? {
                assert!(rejection.index < batch.len());
                drop(rejection.error.to_string());
            }
        }
    }
    Ok(())
}
