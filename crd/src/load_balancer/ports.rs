//! What the balancer listens on.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{HealthCheck, validate};

/// One port that the balancer listens on, or a range of ports.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "self.protocol != 'TCP' || self.port > 9913 || (has(self.endPort) ? self.endPort : self.port) < 9913"
    )
        .message(validate::ADMIN_PORT_TAKEN)
        .field_path(".port"),
    validation = Rule::new("!has(self.endPort) || self.endPort > self.port")
        .message(validate::END_PORT)
        .field_path(".endPort"),
    validation = Rule::new("!has(self.endPort) || !has(self.targetPort)")
        .message(validate::RANGE_TARGET)
        .reason(Reason::FieldValueForbidden)
        .field_path(".targetPort")
)]
pub struct Port {
    /// Name of the port, unique in the object: at most 63 lowercase letters, digits and '-'.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Number that clients connect to, 1 to 65535. Port 9913 of TCP is the agents' own.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Last number of a range that begins with port, up to 65535. Servers are reached at the number that the client asked
    /// for. Absent is no range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
    /// Transport protocol: TCP, UDP or SCTP. Defaults to TCP.
    #[serde(default)]
    pub protocol: Protocol,
    /// The servers' port: a number from 1 to 65535, or the name of a port of the Service. If absent, it is the target
    /// of the Service's port with the same number and protocol; if the Service has none, the same number. A range keeps
    /// its numbers, and so do DR and TUN and persistence of scope All: there it must be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_name")]
    pub target_port: Option<IntOrString>,
    /// How servers of this port are checked, in place of the balancer's healthCheck, which it replaces as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
}

impl Port {
    /// The number to listen on; `None` where the object was never validated and is wrong.
    #[must_use]
    pub fn number(&self) -> Option<u16> {
        u16::try_from(self.port).ok().filter(|number| *number > 0)
    }

    /// The last number to listen on; the first again where it is no range.
    #[must_use]
    pub fn last_number(&self) -> Option<u16> {
        let Some(end) = self.end_port else {
            return self.number();
        };
        u16::try_from(end).ok().filter(|end| Some(*end) > self.number())
    }
}

/// Transport protocols.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum Protocol {
    /// TCP.
    #[default]
    TCP,
    /// UDP.
    UDP,
    /// SCTP, without multi-homing.
    SCTP,
}

impl Protocol {
    /// The word in the object, which is also that of Services and slices.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TCP => "TCP",
            Self::UDP => "UDP",
            Self::SCTP => "SCTP",
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The bounds of numbers hold for numbers alone, and those of strings for strings.
fn number_or_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 1,
        "maximum": 65535,
        "minLength": 1,
        "maxLength": 63,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    })
}
