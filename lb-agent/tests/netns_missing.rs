//! The agent on a kernel without IPVS: it stays up, says what is missing and what to do, and heals by itself.
//!
//! A machine of its own, since a module that was loaded once stays.

#[allow(dead_code, reason = "shared with other tests, which use other parts")]
mod common;

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::Duration;

use common::agent::get;
use common::until;

const FILE: &str = "
apiVersion: portablelb.io/v1alpha1
kind: PortableLoadBalancer
metadata: {name: web}
spec: {backends: {service: {name: web}}, ports: [{name: http, port: 80}]}
";

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection of the agent's own place, which nobody tracks before there are rules.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("can be bound");
        let address = listener.local_addr().expect("is bound");
        Self {
            client: TcpStream::connect(address).expect("can connect"),
            server: listener.accept().expect("somebody came").0,
        }
    }

    /// The first that anybody sees of it is how it ends.
    fn ends(mut self) {
        drop(self.server);
        let patience = Some(Duration::from_secs(20));
        self.client.set_read_timeout(patience).expect("can be set");
        assert_eq!(self.client.read(&mut [0]).expect("the end comes"), 0);
    }
}

#[test]
fn a_missing_module_is_told_until_it_is_loaded() {
    const HELPER: &str = "/proc/sys/kernel/modprobe";
    let helper = fs::read_to_string(HELPER).expect("is there");
    // Neither the kernel nor the agent can load a module now.
    fs::write(HELPER, "\n").expect("can be set");
    fs::write("/run/plb.yaml", FILE).expect("can be written");
    let agent = Command::new(env!("CARGO_BIN_EXE_lb-agent"))
        .args(["serve", "--file", "/run/plb.yaml"])
        .env("PATH", "/usr/bin")
        .spawn();
    let mut agent = Agent(agent.expect("can be run"));

    until(
        "the module is named",
        || {
            let answer = get("/readyz");
            answer.starts_with("HTTP/1.1 503")
                && answer.contains("KernelModuleMissing")
                && answer.contains("modprobe ip_vs")
        },
        || get("/readyz"),
    );
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(get("/metrics").contains("converge_errors_total{reason=\"KernelModuleMissing\"}"));
    assert!(agent.0.try_wait().expect("can be asked").is_none(), "it stays up");

    let old = Connection::new();
    fs::write(HELPER, helper.trim()).expect("can be set");
    assert!(
        Command::new("modprobe")
            .arg("ip_vs")
            .status()
            .expect("can be run")
            .success()
    );
    until(
        "it serves",
        || get("/readyz").starts_with("HTTP/1.1 200"),
        || get("/readyz"),
    );
    old.ends();
}
