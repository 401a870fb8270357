//! The administrator's settings: one file, written by the chart.

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements, Toleration};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the operator is told. Unknown fields are refused, so that a misspelt one is not lost in silence.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Balancers of this class are ours, others are left alone.
    #[serde(default = "default_class")]
    pub class_name: String,
    /// How agents are made.
    pub agents: Agents,
}

/// How agents are made.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Agents {
    /// Where they live.
    pub namespace: String,
    /// The `ClusterRole` that a `RoleBinding` gives to them in a balancer's namespace.
    pub cluster_role: String,
    /// Their image.
    pub image: String,
    /// When a node pulls it: `Always`, `IfNotPresent` or `Never`.
    #[serde(default = "default_pull_policy")]
    pub image_pull_policy: String,
    /// Secrets, in the agents' namespace, that pull it.
    #[serde(default)]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// More labels for their pods.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// More annotations for their pods.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// More tolerations for their pods.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Their priority class; empty for none.
    #[serde(default)]
    pub priority_class_name: String,
    /// Their `RUST_LOG`.
    #[serde(default = "default_log_level")]
    pub log_level: String,
    /// Networks from which balancers may name servers of their own; none by default.
    #[serde(default, rename = "allowedEndpointCIDRs")]
    pub allowed_endpoint_cidrs: Vec<IpNetwork>,
    /// Resources of `serve` where a balancer says nothing.
    #[serde(default)]
    pub resources: ResourceRequirements,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("could not read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// It isn't what it should be.
    #[error("{0} is not a valid configuration")]
    Parse(PathBuf, #[source] Box<serde_yaml::Error>),
    /// A field has no usable value.
    #[error("{field} in {path} must not be empty")]
    Empty {
        /// Path of the field in the file.
        field: &'static str,
        /// The file.
        path: PathBuf,
    },
}

impl Config {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::Read(path.into(), error))?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let config: Self =
            serde_yaml::from_str(text).map_err(|error| Error::Parse(path.into(), Box::new(error)))?;
        let agents = &config.agents;
        let needed = [
            ("className", &config.class_name),
            ("agents.namespace", &agents.namespace),
            ("agents.clusterRole", &agents.cluster_role),
            ("agents.image", &agents.image),
        ];
        let empty = needed.into_iter().find(|(_, value)| value.is_empty());
        match empty.map(|(field, _)| field) {
            Some(field) => Err(Error::Empty {
                field,
                path: path.into(),
            }),
            None => Ok(config),
        }
    }
}

fn default_class() -> String {
    crd::names::DEFAULT_CLASS.to_owned()
}

fn default_pull_policy() -> String {
    "IfNotPresent".to_owned()
}

fn default_log_level() -> String {
    "info".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
className: portable-lb
agents:
  namespace: portable-lb-agents
  clusterRole: portable-lb-agent
  image: portable-lb/agent:0.1.0
  imagePullPolicy: IfNotPresent
  imagePullSecrets: []
  labels: {}
  annotations: {}
  tolerations: []
  priorityClassName: \"\"
  logLevel: info
  allowedEndpointCIDRs: [192.0.2.0/24, '2001:db8::/32']
  resources: {}
";

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(text, Path::new("config.yaml"))
    }

    fn told(error: Error) -> String {
        match error {
            Error::Parse(_, source) => source.to_string(),
            other => other.to_string(),
        }
    }

    #[test]
    fn the_charts_file_is_read() {
        let config = parse(GOOD).expect("valid");
        assert_eq!(config.agents.image, "portable-lb/agent:0.1.0");
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let text = told(parse(&GOOD.replace("logLevel", "logLevle")).expect_err("misspelt"));
        assert!(text.contains("logLevle"), "{text}");
    }

    #[test]
    fn a_network_that_is_none_is_refused() {
        let text = told(parse(&GOOD.replace("192.0.2.0/24", "192.0.2.0/33")).expect_err("no network"));
        assert!(text.contains("allowedEndpointCIDRs"), "{text}");
    }

    #[test]
    fn a_missing_field_is_named() {
        let text = told(parse(&GOOD.replace("  clusterRole: portable-lb-agent\n", "")).expect_err("missing"));
        assert!(text.contains("clusterRole"), "{text}");
    }

    #[test]
    fn an_empty_field_is_named() {
        let text = told(parse(&GOOD.replace("portable-lb/agent:0.1.0", "\"\"")).expect_err("empty"));
        assert!(text.contains("agents.image"), "{text}");
    }
}
