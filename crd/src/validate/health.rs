//! What is wrong with a health check.

use super::{
    HEALTH_CA, HEALTH_DNS, HEALTH_GRPC, HEALTH_HEX, HEALTH_HTTP, HEALTH_TIMEOUT, HEALTH_TLS, HEALTH_UDP,
    Problems, WARM_UP_BY_WEIGHT,
};
use crate::{
    DnsCheck, GrpcCheck, HealthCheck, HealthCheckType as Type, HttpCheck, PortableLoadBalancerSpec,
    SchedulerName, TlsCheck, UdpCheck,
};

/// The balancer's own check, and the ramp for new servers.
pub(super) fn health(spec: &PortableLoadBalancerSpec, problems: &mut Problems) {
    check(&spec.health_check, "spec.healthCheck", problems);
    let path = "spec.warmUpSeconds";
    problems.unless_between(spec.warm_up_seconds, (0, 3600), path);
    let by_weight = [
        SchedulerName::Wrr,
        SchedulerName::Wlc,
        SchedulerName::Sed,
        SchedulerName::Nq,
    ];
    let valid = spec.warm_up_seconds == 0 || by_weight.contains(&spec.scheduler.name);
    problems.unless(valid, path, WARM_UP_BY_WEIGHT);
}

/// One check, of the balancer or of a port.
pub(super) fn check(check: &HealthCheck, path: &str, problems: &mut Problems) {
    let type_ = check.type_;
    let with_http = matches!(type_, Type::HTTP | Type::HTTPS);
    problems.unless(
        check.http.is_none() || with_http,
        &format!("{path}.http"),
        HEALTH_HTTP,
    );
    let tls = match type_ {
        Type::HTTPS => check.tls.is_some(),
        Type::GRPC => true,
        _ => check.tls.is_none(),
    };
    problems.unless(tls, &format!("{path}.tls"), HEALTH_TLS);
    let grpc = check.grpc.is_none() || type_ == Type::GRPC;
    problems.unless(grpc, &format!("{path}.grpc"), HEALTH_GRPC);
    let udp = check.udp.is_some() == (type_ == Type::UDP);
    problems.unless(udp, &format!("{path}.udp"), HEALTH_UDP);
    let dns = check.dns.is_some() == (type_ == Type::DNS);
    problems.unless(dns, &format!("{path}.dns"), HEALTH_DNS);
    numbers(check, path, problems);
    members(check, path, problems);
}

fn numbers(check: &HealthCheck, path: &str, problems: &mut Problems) {
    if let Some(port) = check.port {
        problems.unless_between(port, (1, 65535), &format!("{path}.port"));
    }
    problems.unless_between(
        check.interval_seconds,
        (1, 3600),
        &format!("{path}.intervalSeconds"),
    );
    let timeout = format!("{path}.timeoutSeconds");
    problems.unless_between(check.timeout_seconds, (1, 60), &timeout);
    problems.unless(
        check.timeout_seconds <= check.interval_seconds,
        &timeout,
        HEALTH_TIMEOUT,
    );
    problems.unless_between(check.rise, (1, 10), &format!("{path}.rise"));
    problems.unless_between(check.fall, (1, 10), &format!("{path}.fall"));
}

fn members(check: &HealthCheck, path: &str, problems: &mut Problems) {
    if let Some(check) = &check.http {
        http(check, &format!("{path}.http"), problems);
    }
    if let Some(check) = &check.tls {
        tls(check, &format!("{path}.tls"), problems);
    }
    if let Some(GrpcCheck { service: Some(name) }) = &check.grpc {
        let valid = has_length(name, 253);
        problems.unless(
            valid,
            &format!("{path}.grpc.service"),
            "must have 1 to 253 characters",
        );
    }
    if let Some(check) = &check.udp {
        udp(check, &format!("{path}.udp"), problems);
    }
    if let Some(DnsCheck { name, .. }) = &check.dns {
        let labels = name.strip_suffix('.').unwrap_or(name).split('.');
        let valid = has_length(name, 253) && labels.into_iter().all(is_dns_label);
        let message = "must be a name of 1 to 253 letters, digits, '-', '_' and '.'";
        problems.unless(valid, &format!("{path}.dns.name"), message);
    }
}

fn http(check: &HttpCheck, path: &str, problems: &mut Problems) {
    let valid = has_length(&check.path, 1024)
        && check.path.starts_with('/')
        && check.path.chars().all(|c| c.is_ascii_graphic());
    let message = "must be '/' and at most 1023 printable characters of ASCII";
    problems.unless(valid, &format!("{path}.path"), message);
    if let Some(host) = &check.host {
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "0"));
        let is_port = (1..=5).contains(&port.len()) && port.chars().all(|c| c.is_ascii_digit());
        let valid = has_length(host, 259) && is_host(name) && is_port;
        problems.unless(
            valid,
            &format!("{path}.host"),
            "must be a name, and a port if there is one",
        );
    }
    let path = format!("{path}.expectedStatuses");
    problems.unless(
        check.expected_statuses.len() <= 16,
        &path,
        "must have at most 16 items",
    );
    for (index, status) in check.expected_statuses.iter().enumerate() {
        let path = format!("{path}[{index}]");
        problems.unless_between(*status, (200, 599), &path);
        let again = check.expected_statuses[..index].contains(status);
        problems.unless(!again, &path, "must not be there twice");
    }
}

fn tls(check: &TlsCheck, path: &str, problems: &mut Problems) {
    if let Some(name) = &check.server_name {
        let valid = has_length(name, 253) && is_host(name);
        let message = "must be a name of 1 to 253 letters, digits, '-' and '.'";
        problems.unless(valid, &format!("{path}.serverName"), message);
    }
    let path = format!("{path}.caBundle");
    problems.unless(
        check.ca_bundle.is_some() != check.insecure_skip_verify,
        &path,
        HEALTH_CA,
    );
    if let Some(bundle) = &check.ca_bundle {
        let valid = has_length(bundle, 32768) && bundle.contains("-----BEGIN CERTIFICATE-----");
        let message = "must be certificates in PEM, of at most 32768 characters";
        problems.unless(valid, &path, message);
    }
}

fn udp(check: &UdpCheck, path: &str, problems: &mut Problems) {
    let mut field = |text: &str, name: &str, bytes: Option<Vec<u8>>| {
        let path = format!("{path}.{name}");
        problems.unless(has_length(text, 512), &path, "must have 1 to 512 characters");
        problems.unless(bytes.is_some(), &path, HEALTH_HEX);
    };
    field(&check.request, "request", check.request_bytes());
    if let Some(response) = &check.response {
        field(response, "response", check.response_bytes());
    }
}

fn has_length(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.chars().count())
}

/// A host name or an address, as far as a pattern can tell.
fn is_host(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
        && edge(name.chars().next())
        && edge(name.chars().next_back())
}

/// A label of a name that may be asked for, such as `_http`.
fn is_dns_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}
