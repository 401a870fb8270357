//! Where the servers come from.

use std::collections::BTreeSet;

use super::{BACKENDS_ENDPOINTS, BACKENDS_SERVICE, HOST_ADDRESS, Problems, is_host_address};
use crate::{Backends, BackendsType, EndpointBackend};

pub(super) fn check(backends: &Backends, problems: &mut Problems) {
    let is_service = backends.type_ == BackendsType::Service;
    problems.unless(
        is_service == backends.service.is_some(),
        "spec.backends.service",
        BACKENDS_SERVICE,
    );
    if let Some(service) = &backends.service {
        problems.unless_name(&service.name, "spec.backends.service.name");
    }
    problems.unless(
        is_service == backends.endpoints.is_none(),
        "spec.backends.endpoints",
        BACKENDS_ENDPOINTS,
    );
    if let Some(endpoints) = &backends.endpoints {
        check_endpoints(endpoints, problems);
    }
}

fn check_endpoints(endpoints: &[EndpointBackend], problems: &mut Problems) {
    let path = "spec.backends.endpoints";
    problems.unless(
        (1..=256).contains(&endpoints.len()),
        path,
        "must have 1 to 256 items",
    );
    let mut known = BTreeSet::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = format!("{path}[{index}]");
        problems.unless(
            known.insert(&endpoint.address),
            &path,
            "must have an address that no other has",
        );
        problems.unless(
            is_host_address(&endpoint.address),
            &format!("{path}.address"),
            HOST_ADDRESS,
        );
        problems.unless_between(endpoint.weight, (0, 65535), &format!("{path}.weight"));
    }
}
