//! Which tools there are, how they are grouped, and what each group is built from.

/// A program that the lab runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Tool {
    Containerd,
    ContainerdShim,
    CoreDns,
    Ctr,
    Etcd,
    Flanneld,
    Helm,
    Helm3,
    KubeApiserver,
    KubeControllerManager,
    KubeProxy,
    KubeScheduler,
    Kubectl,
    Kubelet,
}

impl Tool {
    /// Every tool.
    pub const ALL: [Self; 14] = [
        Self::Containerd,
        Self::ContainerdShim,
        Self::CoreDns,
        Self::Ctr,
        Self::Etcd,
        Self::Flanneld,
        Self::Helm,
        Self::Helm3,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeProxy,
        Self::KubeScheduler,
        Self::Kubectl,
        Self::Kubelet,
    ];

    /// The name of its program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::ContainerdShim => "containerd-shim-runc-v2",
            Self::CoreDns => "coredns",
            Self::Ctr => "ctr",
            Self::Etcd => "etcd",
            Self::Flanneld => "flanneld",
            Self::Helm => "helm",
            Self::Helm3 => "helm3",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeProxy => "kube-proxy",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubectl => "kubectl",
            Self::Kubelet => "kubelet",
        }
    }

    /// The Go module that it is built in.
    #[must_use]
    pub fn group(self) -> Group {
        match self {
            Self::Containerd | Self::ContainerdShim | Self::Ctr => Group::Containerd,
            Self::CoreDns => Group::CoreDns,
            Self::Etcd => Group::Etcd,
            Self::Flanneld => Group::Flannel,
            Self::Helm => Group::Helm,
            Self::Helm3 => Group::Helm3,
            _ => Group::Kubernetes,
        }
    }

    /// The Go package of its main function.
    pub(super) fn package(self) -> String {
        match self {
            Self::CoreDns => "github.com/coredns/coredns".to_owned(),
            Self::Etcd => "go.etcd.io/etcd/server/v3".to_owned(),
            Self::Flanneld => ".".to_owned(),
            Self::Helm => "helm.sh/helm/v4/cmd/helm".to_owned(),
            Self::Helm3 => "helm.sh/helm/v3/cmd/helm".to_owned(),
            Self::Containerd | Self::ContainerdShim | Self::Ctr => {
                format!("github.com/containerd/containerd/v2/cmd/{}", self.name())
            }
            _ => format!("k8s.io/kubernetes/cmd/{}", self.name()),
        }
    }
}

/// Tools that are built together from one Go module, `e2e/tools/<name>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Group {
    Containerd,
    CoreDns,
    Etcd,
    Flannel,
    Helm,
    Helm3,
    Kubernetes,
}

/// The files of one group's module; in the program itself, so that a key needs no checkout at hand.
macro_rules! files {
    ($group:literal $(, $source:literal)*) => {
        &[
            include_str!(concat!("../../tools/", $group, "/go.mod")),
            include_str!(concat!("../../tools/", $group, "/go.sum")),
            $(include_str!(concat!("../../tools/", $group, "/", $source)),)*
        ]
    };
}

impl Group {
    /// Every group, the ones that an API server alone needs first.
    pub const ALL: [Self; 7] = [
        Self::Etcd,
        Self::Kubernetes,
        Self::Containerd,
        Self::Flannel,
        Self::Helm,
        Self::CoreDns,
        Self::Helm3,
    ];

    /// The name of its folder under `e2e/tools`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CoreDns => "coredns",
            Self::Etcd => "etcd",
            Self::Flannel => "flannel",
            Self::Helm => "helm",
            Self::Helm3 => "helm3",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// The tools in it.
    pub fn tools(self) -> impl Iterator<Item = Tool> {
        Tool::ALL.into_iter().filter(move |tool| tool.group() == self)
    }

    /// What the linker is told: no symbols, and for Kubernetes the version, without which it calls itself v0.0.0.
    pub(super) fn linker_flags(self) -> String {
        let bare = "-s -w".to_owned();
        if self != Self::Kubernetes {
            return bare;
        }
        let version = self.version("k8s.io/kubernetes");
        let mut numbers = version.trim_start_matches('v').split('.');
        let mut number = || numbers.next().unwrap_or("");
        let set = [
            ("gitVersion", version),
            ("gitMajor", number()),
            ("gitMinor", number()),
        ]
        .map(|(name, value)| format!("-X k8s.io/component-base/version.{name}={value}"));
        format!("{bare} {}", set.join(" "))
    }

    /// Whether C is compiled too: flannel's udp backend is partly C.
    pub(super) fn needs_c(self) -> bool {
        self == Self::Flannel
    }

    /// How long it takes on two cores with nothing downloaded or compiled before.
    pub(super) fn typical_seconds(self) -> u64 {
        match self {
            Self::Containerd => 60,
            Self::CoreDns => 150,
            Self::Etcd => 40,
            Self::Flannel => 90,
            Self::Helm | Self::Helm3 => 25,
            Self::Kubernetes => 400,
        }
    }

    /// The Go version that its module asks for.
    pub(super) fn go_version(self) -> &'static str {
        self.files()[0]
            .lines()
            .find_map(|line| line.strip_prefix("go "))
            .unwrap_or("")
    }

    /// Its folder in the cache: the name and a key of all that makes its programs what they are.
    pub(super) fn folder(self) -> String {
        let settings = format!(
            "{} {} {}",
            std::env::consts::ARCH,
            self.linker_flags(),
            self.needs_c()
        );
        let packages = self.tools().map(Tool::package);
        let parts = self
            .files()
            .iter()
            .map(|file| (*file).to_owned())
            .chain([settings])
            .chain(packages);
        format!("{}-{:016x}", self.name(), key(parts))
    }

    fn version(self, module: &str) -> &'static str {
        let requirement = |line: &'static str| line.trim_start_matches("require").trim().strip_prefix(module);
        self.files()[0]
            .lines()
            .find_map(requirement)
            .map_or("", |rest| rest.trim().trim_end_matches(" // indirect"))
    }

    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Containerd => files!("containerd"),
            Self::CoreDns => files!("coredns"),
            Self::Etcd => files!("etcd"),
            Self::Flannel => files!("flannel", "main.go"),
            Self::Helm => files!("helm"),
            Self::Helm3 => files!("helm3"),
            Self::Kubernetes => files!("kubernetes"),
        }
    }
}

/// FNV-1a over the parts, each ended by a zero byte; it tells apart versions of one's own files, not forgeries.
fn key(parts: impl Iterator<Item = String>) -> u64 {
    parts
        .flat_map(|part| part.into_bytes().into_iter().chain([0]))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(parts: &[&str]) -> u64 {
        key(parts.iter().map(|part| (*part).to_owned()))
    }

    #[test]
    fn every_group_has_a_tool_and_a_go_version() {
        for group in Group::ALL {
            assert!(group.tools().next().is_some(), "{group:?}");
            assert!(
                group.go_version().starts_with("1."),
                "{group:?}: {}",
                group.go_version()
            );
        }
    }

    #[test]
    fn the_key_follows_every_part_and_where_it_ends() {
        assert_eq!(key_of(&["a", "b"]), key_of(&["a", "b"]));
        assert_ne!(key_of(&["a", "b"]), key_of(&["a", "c"]));
        assert_ne!(key_of(&["a", "b"]), key_of(&["ab", ""]));
    }

    #[test]
    fn kubernetes_is_told_the_version_its_module_names() {
        let version = Group::Kubernetes.version("k8s.io/kubernetes");
        assert!(version.starts_with("v1."), "{version:?}");
        assert!(
            Group::Kubernetes
                .linker_flags()
                .contains(&format!("gitVersion={version} "))
        );
        assert!(!Group::Etcd.linker_flags().contains("gitVersion"));
    }

    #[test]
    fn a_tool_of_a_group_of_many_is_named_after_its_package() {
        for tool in Tool::ALL
            .into_iter()
            .filter(|tool| tool.group().tools().count() > 1)
        {
            assert!(tool.package().ends_with(&format!("/{}", tool.name())), "{tool:?}");
        }
    }
}
