//! How packets reach the servers.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::validate;

/// How packets reach the servers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'TUN' || !has(self.tunnel)")
        .message(validate::TUNNEL_MEMBER)
        .reason(Reason::FieldValueForbidden)
        .field_path(".tunnel")
)]
pub struct Forwarding {
    /// The forwarding method. NAT: addresses are rewritten both ways, so servers see the agent's address, anything can
    /// be a server, and answers pass the balancer. DR: packets go unchanged to servers on the agent's own link. TUN:
    /// they go to the server in a tunnel. With DR and TUN servers see the client and answer it directly; they must be
    /// made ready for it, ports are kept, and exposure must be VirtualIP. Defaults to NAT.
    #[serde(rename = "type", default)]
    pub type_: ForwardingType,
    /// The tunnel. May be present only if type is TUN; absent is one of type IPIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
}

/// Forwarding methods.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardingType {
    /// Full NAT.
    #[default]
    NAT,
    /// Direct routing.
    DR,
    /// Tunnelling.
    TUN,
}

/// A tunnel to each server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'GUE' || !has(self.port)")
        .message(validate::TUNNEL_PORT)
        .reason(Reason::FieldValueForbidden)
        .field_path(".port")
)]
pub struct Tunnel {
    /// How packets are wrapped. IPIP: in another IP header, 20 bytes more. GUE: in UDP, 32 bytes more, for networks that
    /// let only TCP and UDP pass. GRE: in GRE, 24 bytes more. Defaults to IPIP.
    #[serde(rename = "type", default)]
    pub type_: TunnelType,
    /// UDP port that the servers take GUE on, 1 to 65535. May be present only if type is GUE; absent is 6080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

impl Tunnel {
    /// The port of GUE where none is given: the one that IANA assigned to it.
    pub const GUE_PORT: u16 = 6080;

    /// The UDP port that the servers take GUE on.
    #[must_use]
    pub fn gue_port(&self) -> u16 {
        let given = self.port.and_then(|port| u16::try_from(port).ok());
        given.filter(|port| *port > 0).unwrap_or(Self::GUE_PORT)
    }
}

/// Ways to wrap packets.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelType {
    /// IP in IP.
    #[default]
    IPIP,
    /// Generic UDP encapsulation.
    GUE,
    /// Generic routing encapsulation.
    GRE,
}

/// Flannel's backends.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlannelBackend {
    /// Read it from the nodes.
    #[default]
    Auto,
    /// host-gw.
    HostGW,
    /// vxlan.
    VXLAN,
    /// udp.
    UDP,
    /// Another network plugin.
    None,
}

impl FlannelBackend {
    /// The word in the object.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::HostGW => "HostGW",
            Self::VXLAN => "VXLAN",
            Self::UDP => "UDP",
            Self::None => "None",
        }
    }
}
