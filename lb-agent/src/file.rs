//! Follows a file in place of Kubernetes: the object, and the slices (and Service) that it names, as YAML documents.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crd::PortableLoadBalancer;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::{error, info};

use crate::facts::Fact;

/// How often the file is read again.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("could not read {path}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// It is no YAML.
    #[error("the file is no YAML")]
    Yaml(#[source] Box<serde_yaml::Error>),
    /// A document is not what its kind says.
    #[error("document {0} is no valid {1}")]
    Document(usize, &'static str, #[source] serde_json::Error),
    /// A document is of another kind.
    #[error("document {0} is a {1}; PortableLoadBalancer, EndpointSlice and Service are known")]
    Kind(usize, String),
    /// There is not exactly one object.
    #[error("the file has {0} documents of kind PortableLoadBalancer; it must have one")]
    Balancers(usize),
    /// The object is not valid.
    #[error("{0}")]
    Invalid(String),
}

/// Sends the file's facts, now and whenever it changes. A file that becomes wrong changes nothing.
pub async fn follow(path: PathBuf, facts: mpsc::Sender<Fact>) {
    let mut last = None;
    loop {
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        if last.as_ref() != Some(&text) {
            let parsed = text.clone().map_err(|error| {
                error!(path = %path.display(), error, "file not read");
            });
            match parsed.map(|text| parse(&text)) {
                Ok(Ok(learnt)) => {
                    info!(path = %path.display(), "file read");
                    for fact in learnt {
                        if facts.send(fact).await.is_err() {
                            return;
                        }
                    }
                }
                Ok(Err(error)) => {
                    error!(error = &error as &dyn std::error::Error, path = %path.display(), "file refused");
                    let fact = Fact::Unreadable {
                        generation: None,
                        message: error.to_string(),
                    };
                    if facts.send(fact).await.is_err() {
                        return;
                    }
                }
                Err(()) => {}
            }
            last = Some(text);
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = facts.closed() => return,
        }
    }
}

/// Reads a file's facts once.
pub fn read(path: &Path) -> Result<Vec<Fact>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text)
}

/// The facts in a file's text.
pub fn parse(text: &str) -> Result<Vec<Fact>, Error> {
    let documents: Vec<Value> =
        serde_yaml::from_multiple(text).map_err(|error| Error::Yaml(Box::new(error)))?;
    let mut balancers: Vec<PortableLoadBalancer> = Vec::new();
    let mut services: Vec<Service> = Vec::new();
    let mut slices: Vec<EndpointSlice> = Vec::new();
    for (number, document) in (1..).zip(documents).filter(|(_, document)| !document.is_null()) {
        let kind = document
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or("document without a kind")
            .to_owned();
        match kind.as_str() {
            "PortableLoadBalancer" => balancers.push(as_(document, number, "PortableLoadBalancer")?),
            "Service" => services.push(as_(document, number, "Service")?),
            "EndpointSlice" => slices.push(as_(document, number, "EndpointSlice")?),
            _ => return Err(Error::Kind(number, kind)),
        }
    }
    let count = balancers.len();
    let Some(balancer) = balancers.pop().filter(|_| count == 1) else {
        return Err(Error::Balancers(count));
    };
    let problems: Vec<String> = crd::validate::validate(&balancer)
        .iter()
        .map(ToString::to_string)
        .collect();
    if problems.is_empty() {
        Ok(facts(balancer, services, slices))
    } else {
        Err(Error::Invalid(problems.join("; ")))
    }
}

fn facts(
    balancer: PortableLoadBalancer,
    services: Vec<Service>,
    mut slices: Vec<EndpointSlice>,
) -> Vec<Fact> {
    let name = balancer
        .spec
        .backends
        .service
        .as_ref()
        .map(|service| service.name.clone())
        .unwrap_or_default();
    let service = services
        .into_iter()
        .find(|service| service.metadata.name.as_ref() == Some(&name));
    let ports = service.map(|service| service.spec.unwrap_or_default().ports.unwrap_or_default());
    slices.retain(|slice| {
        let labels = slice.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get("kubernetes.io/service-name"))
            .is_none_or(|label| *label == name)
    });
    let slices = slices.into_iter().map(|it| Arc::new(it.into())).collect();
    vec![
        Fact::Service(name.clone(), ports),
        Fact::Slices(name, slices, Instant::now()),
        Fact::Balancer(Box::new(balancer)),
    ]
}

fn as_<T: serde::de::DeserializeOwned>(value: Value, number: usize, kind: &'static str) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| Error::Document(number, kind, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addresses::Addresses;
    use crate::facts::Facts;
    use crate::trust::Trust;

    const FILE: &str = "
apiVersion: portablelb.io/v1alpha1
kind: PortableLoadBalancer
metadata: {name: web}
spec:
  backends: {type: Service, service: {name: web}}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], conditions: {ready: false}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: other-1, labels: {kubernetes.io/service-name: other}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.3]}]
";

    #[test]
    fn a_file_tells_all_that_is_needed() {
        let mut facts = Facts::default();
        for fact in parse(FILE).expect("valid") {
            facts.take(fact, &Trust::All);
        }
        let wanted = facts
            .wanted(&Addresses::default(), &crate::ways::Ways::default())
            .expect("all is known");
        assert_eq!(wanted.desired.table.server_count(), 1);
        assert_eq!(wanted.desired.unready.len(), 1);
    }

    #[test]
    fn a_wrong_file_tells_which_document_is_wrong() {
        let text = |text: &str| parse(text).expect_err("wrong").to_string();
        assert!(text("").contains("0 documents"));
        assert!(text(&format!("{FILE}---\nkind: Pod\n")).contains("document 4 is a Pod"));
        assert!(text(&format!("{FILE}---{FILE}")).contains("2 documents"));
        assert!(text(&FILE.replace("port: 80,", "port: http,")).contains("document 1"));
        assert!(text("{").contains("YAML"));
        assert!(text(&FILE.replace("port: 80,", "port: 0,")).contains("spec.ports[0].port"));
    }
}
