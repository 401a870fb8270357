//! The sysctls that full NAT needs in the agent's network namespace, and why.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tracing::info;

use crate::finding::{Finding, Kind, Severity};
use crate::table::Family;

/// Which values are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Exactly(u32),
    AtLeast(u32),
    AtMost(u32),
}

impl Wanted {
    fn is_met(self, value: u32) -> bool {
        match self {
            Self::Exactly(wanted) => value == wanted,
            Self::AtLeast(wanted) => value >= wanted,
            Self::AtMost(wanted) => value <= wanted,
        }
    }

    fn value(self) -> u32 {
        match self {
            Self::Exactly(value) | Self::AtLeast(value) | Self::AtMost(value) => value,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(value) => write!(f, "{value}"),
            Self::AtLeast(value) => write!(f, "at least {value}"),
            Self::AtMost(value) => write!(f, "at most {value}"),
        }
    }
}

/// A sysctl and the values of it that are right.
#[derive(Clone, Copy, Debug)]
struct Setting {
    name: &'static str,
    wanted: Wanted,
    severity: Severity,
}

const fn blocking(name: &'static str, wanted: Wanted) -> Setting {
    Setting {
        name,
        wanted,
        severity: Severity::Blocking,
    }
}

const fn degrading(name: &'static str, wanted: Wanted) -> Setting {
    Setting {
        name,
        wanted,
        severity: Severity::Degrading,
    }
}

/// What the sysctls depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The families that are served.
    pub families: BTreeSet<Family>,
    /// How long IPVS remembers UDP flows; conntrack must not forget them earlier.
    pub udp_seconds: u32,
    /// Whether answers go past the agent.
    pub bypass: Bypass,
}

impl Needs {
    /// How long IPVS remembers UDP flows where nothing else is said.
    pub const UDP_SECONDS: u32 = 300;

    /// Of a balancer that says nothing special.
    #[must_use]
    pub fn of(families: BTreeSet<Family>) -> Self {
        Self {
            families,
            udp_seconds: Self::UDP_SECONDS,
            bypass: Bypass::default(),
        }
    }
}

const SETTINGS: [Setting; 7] = [
    // Without it IPVS marks its packets untracked, and none is masqueraded.
    blocking("net.ipv4.vs.conntrack", Wanted::Exactly(1)),
    // Connections of a removed server are reset, not left to hang.
    degrading("net.ipv4.vs.expire_nodest_conn", Wanted::Exactly(1)),
    // A persistent client of a draining server moves to another.
    degrading("net.ipv4.vs.expire_quiescent_template", Wanted::Exactly(1)),
    // Replies out of the window stay valid, and so are un-NATed.
    degrading("net.netfilter.nf_conntrack_tcp_be_liberal", Wanted::Exactly(1)),
    // A server has 64 k source ports; each is held this long after its connection.
    degrading(
        "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
        Wanted::AtMost(30),
    ),
    // When memory is short, half-open connections go before those that are in use.
    degrading("net.ipv4.vs.drop_entry", Wanted::AtLeast(1)),
    // Client ports may be reused at once; before Linux 5.9 that cost a second each.
    degrading(REUSE, Wanted::Exactly(1)),
];

const REUSE: &str = "net.ipv4.vs.conn_reuse_mode";

/// Else a flow that IPVS remembers comes to its server from a new port.
const UDP_TIMEOUTS: [&str; 2] = [
    "net.netfilter.nf_conntrack_udp_timeout",
    "net.netfilter.nf_conntrack_udp_timeout_stream",
];

fn settings(needs: &Needs, kernel: (u32, u32)) -> Vec<Setting> {
    let mut settings = Vec::new();
    let families = &needs.families;
    if families.contains(&Family::V4) {
        settings.push(blocking("net.ipv4.ip_forward", Wanted::Exactly(1)));
    }
    if families.contains(&Family::V6) {
        // A new namespace has 0 even where the node has 1.
        settings.push(blocking("net.ipv6.conf.all.forwarding", Wanted::Exactly(1)));
    }
    settings.extend(SETTINGS);
    settings.extend(UDP_TIMEOUTS.map(|name| degrading(name, Wanted::AtLeast(needs.udp_seconds))));
    settings.extend(needs.bypass.settings());
    if kernel < (5, 9) {
        for setting in settings.iter_mut().filter(|setting| setting.name == REUSE) {
            setting.wanted = Wanted::Exactly(0);
        }
    }
    settings
}

/// Takes connections up in their middle.
const SLOPPY: &str = "net.ipv4.vs.sloppy_tcp";

/// What a balancer needs whose servers answer clients directly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bypass {
    /// Answers go past the agent.
    pub answers: bool,
    /// Another agent's connections may come here any time, and would find the same server.
    pub takes_over: bool,
}

impl Bypass {
    fn settings(self) -> Vec<Setting> {
        let mut settings = Vec::new();
        if self.answers {
            // Answers to the agent's own questions come from the balancer's address, which is an own address here.
            settings.push(blocking("net.ipv4.conf.all.accept_local", Wanted::Exactly(1)));
            // Loose, whatever the interface's own value is: the strict one drops them too.
            settings.push(blocking("net.ipv4.conf.all.rp_filter", Wanted::Exactly(2)));
        }
        if self.takes_over {
            settings.push(degrading(SLOPPY, Wanted::Exactly(1)));
        }
        settings
    }
}

/// The sysctls of a network namespace.
#[derive(Clone, Debug)]
pub struct Sysctls {
    root: PathBuf,
    kernel: (u32, u32),
}

impl Default for Sysctls {
    fn default() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            root: PathBuf::from("/proc/sys"),
            kernel: version(&kernel),
        }
    }
}

impl Sysctls {
    /// Sets those that are not as they should be, and returns those that still are not.
    #[must_use]
    pub fn set(&self, needs: &Needs) -> Vec<Finding> {
        let mut settings = settings(needs, self.kernel);
        if !needs.bypass.takes_over && read(&self.path(SLOPPY)).is_ok_and(|value| value != 0) {
            settings.push(degrading(SLOPPY, Wanted::Exactly(0)));
        }
        settings
            .iter()
            .filter_map(|setting| self.set_one(setting))
            .collect()
    }

    /// The names of those that are not as they should be.
    #[must_use]
    pub fn wrong(&self, needs: &Needs) -> Vec<&'static str> {
        let settings = settings(needs, self.kernel);
        let is_wrong = |setting: &Setting| !self.is_right(setting);
        settings
            .iter()
            .filter(|setting| is_wrong(setting))
            .map(|setting| setting.name)
            .collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name.replace('.', "/"))
    }

    fn is_right(&self, setting: &Setting) -> bool {
        read(&self.path(setting.name)).is_ok_and(|value| setting.wanted.is_met(value))
    }

    fn set_one(&self, setting: &Setting) -> Option<Finding> {
        if self.is_right(setting) {
            return None;
        }
        let path = self.path(setting.name);
        let refused = write(&path, setting.wanted.value()).err();
        let got = match (read(&path), refused) {
            (Ok(value), _) if setting.wanted.is_met(value) => {
                info!(name = setting.name, value, "sysctl set");
                return None;
            }
            (Ok(value), None) => value.to_string(),
            (Ok(value), Some(error)) => format!("{value} (could not set it: {error})"),
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => ABSENT.to_owned(),
            (Err(error), _) => format!("unreadable ({error})"),
        };
        Some(finding(setting, got))
    }
}

const ABSENT: &str = "absent";

fn finding(setting: &Setting, got: String) -> Finding {
    let (name, value) = (setting.name, setting.wanted.value());
    let remedy = if got == ABSENT {
        "load the module that brings it (ip_vs, nf_conntrack) on the node, then delete this pod so that its init \
         container runs again"
            .to_owned()
    } else {
        format!(
            "let the init container run privileged and delete this pod so that it runs again; without Kubernetes \
             run `sysctl -w {name}={value}`"
        )
    };
    Finding {
        severity: setting.severity,
        kind: Kind::Sysctl,
        name: name.to_owned(),
        wanted: setting.wanted.to_string(),
        got,
        remedy,
    }
}

fn read(path: &Path) -> io::Result<u32> {
    let text = fs::read_to_string(path)?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no number"))
}

/// Never makes a file: in `/proc` that fails anyway, with a misleading error.
fn write(path: &Path, value: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(value.to_string().as_bytes())
}

/// `6.1.0-13-amd64` → (6, 1). What can't be read counts as new.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (u32::MAX, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        /// A folder like /proc/sys in which every setting is there, with `value`.
        fn new(name: &str, value: &str) -> Self {
            let root = std::env::temp_dir().join(format!("plb-sysctl-{name}-{}", std::process::id()));
            for setting in settings(&both(), (6, 1)) {
                let path = root.join(setting.name.replace('.', "/"));
                fs::create_dir_all(path.parent().expect("has a folder")).expect("can be made");
                fs::write(path, value).expect("can be written");
            }
            Self(root)
        }

        fn sysctls(&self, kernel: (u32, u32)) -> Sysctls {
            Sysctls {
                root: self.0.clone(),
                kernel,
            }
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn both() -> Needs {
        Needs::of(BTreeSet::from([Family::V4, Family::V6]))
    }

    fn v4() -> Needs {
        Needs::of(BTreeSet::from([Family::V4]))
    }

    #[test]
    fn wrong_values_are_set_and_then_right() {
        let tree = Tree::new("set", "0\n");
        let sysctls = tree.sysctls((6, 1));
        assert!(sysctls.wrong(&both()).contains(&"net.ipv4.vs.conntrack"));
        assert_eq!(sysctls.set(&both()), []);
        assert!(sysctls.wrong(&both()).is_empty());
        let conntrack = fs::read_to_string(tree.0.join("net/ipv4/vs/conntrack")).expect("is there");
        assert_eq!(conntrack, "1");
    }

    #[test]
    fn better_values_are_left_alone() {
        let tree = Tree::new("keep", "1\n");
        let timeout = tree.0.join("net/netfilter/nf_conntrack_udp_timeout");
        fs::write(&timeout, "900").expect("can be written");
        assert_eq!(tree.sysctls((6, 1)).set(&both()), []);
        assert_eq!(fs::read_to_string(&timeout).expect("is there"), "900");
        let longer = Needs {
            udp_seconds: 1000,
            ..both()
        };
        assert_eq!(tree.sysctls((6, 1)).set(&longer), []);
        assert_eq!(fs::read_to_string(&timeout).expect("is there"), "1000");
    }

    #[test]
    fn an_absent_one_is_told_with_what_to_do() {
        let tree = Tree::new("absent", "1");
        fs::remove_file(tree.0.join("net/ipv4/vs/conntrack")).expect("is there");
        let findings = tree.sysctls((6, 1)).set(&v4());
        let found = findings
            .iter()
            .find(|it| it.name == "net.ipv4.vs.conntrack")
            .expect("told");
        assert_eq!(
            (found.severity, found.got.as_str()),
            (Severity::Blocking, "absent")
        );
        assert!(found.to_string().contains("ip_vs"));
    }

    #[test]
    fn before_5_9_ports_are_not_reused() {
        let of = |kernel| {
            settings(&both(), kernel)
                .into_iter()
                .find(|it| it.name == REUSE)
                .expect("listed")
                .wanted
        };
        assert_eq!((of((5, 8)), of((5, 9))), (Wanted::Exactly(0), Wanted::Exactly(1)));
        assert_eq!(version("6.1.0-13-amd64"), (6, 1));
        assert_eq!(version("4.18.0-372.el8\n"), (4, 18));
        assert_eq!(version("?"), (u32::MAX, 0));
    }

    #[test]
    fn ipv6_is_asked_for_only_where_it_is_used() {
        let names = |needs| settings(&needs, (6, 1)).iter().any(|it| it.name.contains("ipv6"));
        assert!(names(both()));
        assert!(!names(v4()));
    }
}
