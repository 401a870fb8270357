//! What servers answer to health checks.
#![no_main]

use std::future::Future;
use std::net::SocketAddr;

use crd::{DnsCheck, DnsRecordType, HttpCheck};
use lb_agent::health::{dns, grpc, http};
use tokio::io::{join, sink};
use tokio::runtime::Builder;

// The first byte says what was asked; the others are the answer.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((asked, heard)) = bytes.split_first() else {
        return;
    };
    let server = SocketAddr::from(([10, 0, 0, 1], 80));
    match asked % 6 {
        0 => judge(DnsRecordType::A, heard),
        1 => judge(DnsRecordType::AAAA, heard),
        2 => whole_or_in_parts(heard),
        3 => drop(grpc::serving_status(heard)),
        4 => {
            let request = http::Request::new(&HttpCheck::default());
            let _ = wait(http::ask(&request, server, join(heard, sink())));
        }
        _ => {
            let _ = wait(grpc::ask("web", "http://10.0.0.1:80", join(heard, sink())));
        }
    }
});

fn judge(type_: DnsRecordType, heard: &[u8]) {
    let name = "example.com".to_owned();
    let question = dns::Question::new(&DnsCheck { name, type_ }).expect("a name");
    let _ = question.judge(7, heard);
}

/// A status that was read from the beginning of an answer is not another when more of it has come.
fn whole_or_in_parts(heard: &[u8]) {
    let whole = http::status(heard);
    let early = http::status(&heard[..heard.len() / 2]);
    assert!(early == Ok(None) || early == whole, "{early:?}, {whole:?}");
}

/// No answer makes it wait for ever: the stream ends.
fn wait<T>(asked: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().build().expect("needs nothing");
    runtime.block_on(asked)
}
