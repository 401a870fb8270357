//! Network namespaces, and programs in them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Between two looks at a condition.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's thread, and nobody tells when the kernel changed"
)]
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(50));
}

/// Where a namespace is to be found.
pub(crate) fn namespace(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Makes one, as `ip netns add` does it.
pub(crate) fn make_namespace(name: &str) {
    let path = namespace(name);
    fs::create_dir_all("/run/netns").expect("can be made");
    File::create(&path).expect("can be made");
    let work = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("may be made");
        let source = Some("/proc/thread-self/ns/net");
        mount(source, &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("may be mounted");
    });
    work.join().expect("the namespace is made");
}

/// A program's output; it must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
