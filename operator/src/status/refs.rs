//! Whether what the spec names is there.

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::truth::Finding;
use crd::condition::reason;
use crd::{BackendsType, PortableLoadBalancer, target};

/// Looks for the Service, and in it for each port. Given addresses refer to nothing.
pub(crate) fn resolve(lb: &PortableLoadBalancer, service: Option<&Service>) -> Result<(), Finding> {
    if lb.spec.backends.type_ == BackendsType::Endpoints {
        return Ok(());
    }
    let name = lb
        .spec
        .backends
        .service
        .as_ref()
        .map(|it| it.name.as_str())
        .unwrap_or_default();
    let namespace = lb.namespace().unwrap_or_default();
    let Some(service) = service else {
        let message = format!(
            "spec.backends.service.name: there is no Service {name} in namespace {namespace}: create it, or name another"
        );
        return Err(Finding::new(reason::SERVICE_NOT_FOUND, message));
    };
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let wrong: Vec<String> = lb
        .spec
        .ports
        .iter()
        .enumerate()
        .filter_map(|(index, port)| {
            let error = target::resolve(port, Some(ports)).err()?;
            Some(format!("spec.ports[{index}].targetPort: Service {name}: {error}"))
        })
        .collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Finding::new(reason::PORT_NOT_FOUND, wrong.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lb(target: &str) -> PortableLoadBalancer {
        serde_json::from_value(json!({
            "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"backends": {"type": "Service", "service": {"name": "web"}},
                     "ports": [{"name": "http", "port": 80, "targetPort": target}]},
        }))
        .expect("valid")
    }

    fn service() -> Service {
        serde_json::from_value(json!({"spec": {"ports": [{"name": "http", "port": 8080}]}})).expect("valid")
    }

    #[test]
    fn a_missing_service_is_named_with_its_namespace() {
        let finding = resolve(&lb("http"), None).expect_err("no Service");
        assert_eq!(finding.reason, reason::SERVICE_NOT_FOUND);
        assert!(
            finding.message.contains("web in namespace shop"),
            "{}",
            finding.message
        );
    }

    #[test]
    fn a_missing_port_is_told_with_its_field() {
        let finding = resolve(&lb("metrics"), Some(&service())).expect_err("no such port");
        assert_eq!(finding.reason, reason::PORT_NOT_FOUND);
        assert!(
            finding
                .message
                .starts_with("spec.ports[0].targetPort: Service web:"),
            "{}",
            finding.message
        );
    }

    #[test]
    fn what_is_there_is_resolved() {
        assert_eq!(resolve(&lb("http"), Some(&service())), Ok(()));
    }
}
