//! The agent on a kernel without IPVS: it stays up, says what is missing and what to do, and heals by itself.
//!
//! A machine of its own, since a module that was loaded once stays.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

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

fn get(path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", 9913)) {
        let _ = stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's thread, and nobody tells when the kernel changed"
)]
fn pause() {
    thread::sleep(Duration::from_millis(100));
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < end, "not so in time: {what}\n{}", get("/readyz"));
        pause();
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

    until("the module is named", || {
        let answer = get("/readyz");
        answer.starts_with("HTTP/1.1 503")
            && answer.contains("KernelModuleMissing")
            && answer.contains("modprobe ip_vs")
    });
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(get("/metrics").contains("converge_errors_total{reason=\"KernelModuleMissing\"}"));
    assert!(agent.0.try_wait().expect("can be asked").is_none(), "it stays up");

    fs::write(HELPER, helper.trim()).expect("can be set");
    assert!(
        Command::new("modprobe")
            .arg("ip_vs")
            .status()
            .expect("can be run")
            .success()
    );
    until("it serves", || get("/readyz").starts_with("HTTP/1.1 200"));
}
