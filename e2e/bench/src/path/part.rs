//! What a packet's time is spent on, told by whose function runs.

/// A part of a kernel's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// IPVS.
    Ipvs,
    /// Connection tracking, and NAT by it.
    Conntrack,
    /// iptables: its rules, and what they ask and do.
    Rules,
    /// All else of the network, and of the kernel.
    Kernel,
    /// The kernel that the machine is a process of: its system calls and signals.
    Below,
    /// Programs in the machine.
    Programs,
}

impl Part {
    pub(super) const ALL: [Self; 6] = [
        Self::Ipvs,
        Self::Conntrack,
        Self::Rules,
        Self::Kernel,
        Self::Below,
        Self::Programs,
    ];

    /// Its name in the values.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ipvs => "IPVS",
            Self::Conntrack => "connection tracking and NAT",
            Self::Rules => "iptables",
            Self::Kernel => "rest of the machine's kernel",
            Self::Below => "emulation",
            Self::Programs => "programs in the machine",
        }
    }

    /// What the functions of a module are part of; without a module they are the kernel's own.
    pub(super) fn of_module(module: Option<&str>) -> Self {
        let Some(module) = module else {
            return Self::Kernel;
        };
        let is = |starts: &[&str]| starts.iter().any(|start| module.starts_with(start));
        if is(&["ip_vs"]) {
            Self::Ipvs
        } else if is(&["nf_conntrack", "nf_nat", "nf_defrag"]) {
            Self::Conntrack
        } else if is(&[
            "ip_tables",
            "iptable_",
            "x_tables",
            "xt_",
            "ipt_",
            "nf_tables",
            "nft_",
        ]) {
            Self::Rules
        } else {
            Self::Kernel
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_tells_the_part() {
        let of = |module| Part::of_module(Some(module));
        assert_eq!((of("ip_vs_wlc"), of("nf_nat")), (Part::Ipvs, Part::Conntrack));
        assert_eq!((of("xt_MASQUERADE"), of("tun")), (Part::Rules, Part::Kernel));
        assert_eq!(Part::of_module(None), Part::Kernel);
    }
}
