//! What tests with network namespaces share: the namespaces, an agent in one of them, and waiting.

pub(crate) mod agent;
pub(crate) mod connection;
pub(crate) mod hub;
pub(crate) mod places;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(40);

/// Waits until a condition holds; if it takes too long, says what there is instead.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool, found: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not so in time: {what}\n{}", found());
        pause();
    }
}

/// Between two looks at a condition.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's thread, and nobody tells when the kernel changed"
)]
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(50));
}

/// A program's output; it must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    feed(program, arguments, "")
}

/// The output of a program that is given some input; it must succeed.
pub(crate) fn feed(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("can be run");
    let mut stdin = child.stdin.take().expect("is a pipe");
    // One that reads nothing may have ended already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?} {input}: {stderr}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
