//! Receive packet steering, on this machine's own kernel and processors: those of the other kernel tests have one.
//! Needs root and two processors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use lb_agent::steering::Steering;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// In namespaces of this thread: a pod's interface, and `/sys` as a pod sees it. Both go with the thread.
fn pod_sys() -> PathBuf {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root may");
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .expect("root may");
    let link = "link add eth0 type veth peer name lan";
    let made = Command::new("ip").args(link.split(' ')).status();
    assert!(made.expect("ip is there").success());
    mount(
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .expect("root may");
    PathBuf::from("/sys")
}

fn cpus_of_the_queue(sys: &Path) -> u32 {
    let mask = fs::read_to_string(sys.join("class/net/eth0/queues/rx-0/rps_cpus")).expect("is there");
    let groups = mask
        .trim()
        .split(',')
        .map(|group| u32::from_str_radix(group, 16).expect("a mask"));
    groups.map(u32::count_ones).sum()
}

#[test]
fn the_kernel_steers_to_all_processors_or_is_left_alone() {
    let work = thread::spawn(|| {
        let processors = thread::available_parallelism().expect("is known").get();
        assert!(processors > 1, "this test needs two processors");
        let sys = pod_sys();
        assert_eq!(Steering::None.apply(&sys), None);
        assert_eq!(cpus_of_the_queue(&sys), 0, "left alone");
        assert_eq!(Steering::Auto.apply(&sys), None);
        assert_eq!(usize::try_from(cpus_of_the_queue(&sys)), Ok(processors));
        assert_eq!(Steering::Auto.apply(&sys), None, "it is so already");
    });
    work.join().expect("all holds");
}

#[test]
fn a_sys_that_may_not_be_written_is_told() {
    let work = thread::spawn(|| {
        let sys = pod_sys();
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, "/sys", None::<&str>, read_only, None::<&str>).expect("root may");
        let finding = Steering::Auto.apply(&sys).expect("told");
        assert!(finding.got.contains("Read-only"), "{finding}");
        assert!(finding.remedy.contains("spec.packetSteering.rps"), "{finding}");
    });
    work.join().expect("all holds");
}
