//! Series of the kernel's connection tracking.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::gauge;

/// How full the connection tracking of this namespace is.
#[derive(Debug)]
pub(super) struct Conntrack;

impl Collector for Conntrack {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let series = [
            (
                "conntrack_entries",
                "Connections tracked in the agent's namespace",
                "nf_conntrack_count",
            ),
            (
                "conntrack_entries_limit",
                "Most connections tracked in a namespace of the node",
                "nf_conntrack_max",
            ),
        ];
        for (name, help, file) in series {
            let text = std::fs::read_to_string(format!("/proc/sys/net/netfilter/{file}")).ok();
            if let Some(value) = text.and_then(|text| text.trim().parse().ok()) {
                gauge(&mut encoder, name, help, value)?;
            }
        }
        Ok(())
    }
}
