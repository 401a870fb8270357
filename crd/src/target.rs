//! Which port of a server a balancer's port leads to.

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{Port, Protocol};

/// The server's port, as far as the spec and the Service tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This number on every server.
    Number(u16),
    /// The number that an `EndpointSlice` gives to its port of this name and of the listener's protocol.
    /// `None`: the one port of a Service that has no name for it.
    Named(Option<String>),
}

/// Why a port leads nowhere. The text tells what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The Service has no port of the name.
    #[error("the Service has no port named {name:?}; it has {known}: name one of these or give a number")]
    NoSuchPort {
        /// The name asked for.
        name: String,
        /// What the Service has.
        known: String,
    },
    /// The Service's port of the name is of another protocol.
    #[error(
        "the Service's port {name:?} is of protocol {found}, not {wanted}: name a port of protocol {wanted}"
    )]
    OtherProtocol {
        /// The name asked for.
        name: String,
        /// The protocol of the Service's port.
        found: String,
        /// The protocol of the listener.
        wanted: Protocol,
    },
    /// Addresses that are given in the object have no names for ports.
    #[error("there is no Service that would know the port {0:?}: give a number")]
    NoNames(String),
    /// No port number.
    #[error("{0} is no port number: it must be from 1 to 65535")]
    OutOfRange(i32),
}

/// Tells where `port` leads. `service_ports` is `None` while the Service is unknown, as it may be without Kubernetes.
///
/// A number is taken as it is, and a name is a port of the Service. Without either it is the Service's port of the
/// same number and protocol, else the same number.
pub fn resolve(port: &Port, service_ports: Option<&[ServicePort]>) -> Result<Target, TargetError> {
    match (&port.target_port, service_ports) {
        (Some(IntOrString::Int(number)), _) => to_number(*number).map(Target::Number),
        (Some(IntOrString::String(name)), None) => Ok(Target::Named(Some(name.clone()))),
        (Some(IntOrString::String(name)), Some(ports)) => by_name(name, port.protocol, ports),
        (None, ports) => by_number(port, ports.unwrap_or_default()),
    }
}

fn by_name(name: &str, wanted: Protocol, ports: &[ServicePort]) -> Result<Target, TargetError> {
    let Some(found) = ports.iter().find(|port| port.name.as_deref() == Some(name)) else {
        return Err(TargetError::NoSuchPort {
            name: name.to_owned(),
            known: list(ports),
        });
    };
    if protocol(found) == wanted.as_str() {
        Ok(Target::Named(Some(name.to_owned())))
    } else {
        let found = protocol(found).to_owned();
        Err(TargetError::OtherProtocol {
            name: name.to_owned(),
            found,
            wanted,
        })
    }
}

fn by_number(port: &Port, ports: &[ServicePort]) -> Result<Target, TargetError> {
    let number = to_number(port.port)?;
    let same = |found: &&ServicePort| found.port == port.port && protocol(found) == port.protocol.as_str();
    Ok(match ports.iter().find(same) {
        Some(found) => Target::Named(found.name.clone().filter(|name| !name.is_empty())),
        None => Target::Number(number),
    })
}

fn to_number(number: i32) -> Result<u16, TargetError> {
    match u16::try_from(number) {
        Ok(valid) if valid > 0 => Ok(valid),
        _ => Err(TargetError::OutOfRange(number)),
    }
}

/// An absent protocol is TCP, as everywhere in Kubernetes.
fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn list(ports: &[ServicePort]) -> String {
    let names: Vec<&str> = ports.iter().filter_map(|port| port.name.as_deref()).collect();
    if names.is_empty() {
        "no named port".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(port: i32, target_port: Option<IntOrString>) -> Port {
        Port {
            end_port: None,
            name: "x".into(),
            port,
            protocol: Protocol::TCP,
            target_port,
            health_check: None,
        }
    }

    fn service(ports: &[(Option<&str>, i32, &str)]) -> Vec<ServicePort> {
        let one = |(name, port, protocol): &(Option<&str>, i32, &str)| ServicePort {
            name: name.map(str::to_owned),
            port: *port,
            protocol: Some((*protocol).to_owned()),
            ..ServicePort::default()
        };
        ports.iter().map(one).collect()
    }

    fn name(name: &str) -> IntOrString {
        IntOrString::String(name.to_owned())
    }

    #[test]
    fn a_number_is_taken_as_it_is() {
        let port = listener(80, Some(IntOrString::Int(8080)));
        let ports = service(&[(Some("http"), 80, "TCP")]);
        assert_eq!(resolve(&port, Some(&ports)), Ok(Target::Number(8080)));
        assert_eq!(resolve(&port, None), Ok(Target::Number(8080)));
    }

    #[test]
    fn a_number_out_of_range_is_refused() {
        for number in [0, -1, 65536] {
            let port = listener(80, Some(IntOrString::Int(number)));
            assert_eq!(resolve(&port, None), Err(TargetError::OutOfRange(number)));
            assert_eq!(
                resolve(&listener(number, None), None),
                Err(TargetError::OutOfRange(number))
            );
        }
    }

    #[test]
    fn a_name_is_a_port_of_the_service() {
        let ports = service(&[(Some("http"), 80, "TCP"), (Some("dns"), 53, "UDP")]);
        let named = Ok(Target::Named(Some("http".into())));
        assert_eq!(resolve(&listener(8000, Some(name("http"))), Some(&ports)), named);
        assert_eq!(resolve(&listener(8000, Some(name("http"))), None), named);
    }

    #[test]
    fn an_unknown_name_tells_the_known_ones() {
        let ports = service(&[(Some("http"), 80, "TCP"), (Some("dns"), 53, "UDP")]);
        let error = resolve(&listener(80, Some(name("web"))), Some(&ports)).expect_err("no such port");
        assert!(error.to_string().contains("http, dns"), "{error}");
    }

    #[test]
    fn a_name_of_another_protocol_is_refused() {
        let ports = service(&[(Some("dns"), 53, "UDP")]);
        let error = resolve(&listener(53, Some(name("dns"))), Some(&ports)).expect_err("another protocol");
        assert!(matches!(error, TargetError::OtherProtocol { .. }), "{error}");
    }

    #[test]
    fn without_a_target_the_services_port_of_that_number_and_protocol_is_taken() {
        let ports = service(&[(Some("dns"), 53, "UDP"), (Some("dns-tcp"), 53, "TCP")]);
        let found = resolve(&listener(53, None), Some(&ports));
        assert_eq!(found, Ok(Target::Named(Some("dns-tcp".into()))));
    }

    #[test]
    fn a_services_only_port_may_have_no_name() {
        for unnamed in [None, Some("")] {
            let ports = service(&[(unnamed, 80, "TCP")]);
            assert_eq!(
                resolve(&listener(80, None), Some(&ports)),
                Ok(Target::Named(None))
            );
        }
    }

    #[test]
    fn without_a_target_and_such_a_port_the_number_stays() {
        let ports = service(&[(Some("http"), 80, "TCP")]);
        assert_eq!(resolve(&listener(81, None), Some(&ports)), Ok(Target::Number(81)));
        assert_eq!(resolve(&listener(81, None), None), Ok(Target::Number(81)));
    }
}
