//! `EndpointSlice`s of a Service `web`, for a file that the agent follows. Pure.

use std::fmt::{Display, Write as _};

/// The most endpoints that the API takes in one.
pub(crate) const LONGEST: usize = 1_000;

/// Documents, each with the line that begins it, of ready servers at these addresses and the port that is named `http`.
pub(crate) fn documents(addresses: &[impl Display], port: u16) -> String {
    let mut text = String::new();
    for (index, addresses) in addresses.chunks(LONGEST).enumerate() {
        let _ = write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{name: web-{index}, labels: {{kubernetes.io/service-name: web}}}}\n\
             ports: [{{name: http, port: {port}, protocol: TCP}}]\nendpoints:\n"
        );
        for address in addresses {
            let _ = writeln!(text, "- {{addresses: [{address}], conditions: {{ready: true}}}}");
        }
    }
    text
}
