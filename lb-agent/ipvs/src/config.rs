//! Settings of IPVS in this network namespace, and facts about it.

/// How long idle connections are remembered, in seconds. A 0 leaves the kernel's value unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Config {
    /// Established TCP connections; the kernel starts with 900.
    pub tcp_seconds: u32,
    /// TCP connections after a FIN; the kernel starts with 120.
    pub tcp_fin_seconds: u32,
    /// UDP flows; the kernel starts with 300.
    pub udp_seconds: u32,
}

/// Facts about the kernel's IPVS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Its version, such as `(1, 2, 1)`.
    pub version: (u8, u8, u8),
    /// Buckets of the connection table. Up to Linux 6.12 all namespaces of a node share them.
    pub connection_table_size: u32,
}
