//! Slices of made-up servers. Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

/// As many as the controller of Kubernetes puts into a slice.
const PER_SLICE: usize = 100;
/// The port of all servers.
pub const PORT: u16 = 8080;

/// The slices of a Service, as the controller of Kubernetes makes them.
pub struct Slices {
    slices: Vec<EndpointSlice>,
    /// How many addresses were used.
    used: u32,
}

impl Slices {
    /// Of the Service of this name, in this namespace: with these labels and so many servers.
    pub fn new((name, namespace): (&str, &str), labels: &Value, size: usize) -> Result<Self> {
        let mut all = Self {
            slices: Vec::new(),
            used: 0,
        };
        let mut left = size;
        while left > 0 {
            let count = left.min(PER_SLICE);
            let endpoints: Vec<Value> = (0..count)
                .map(|_| endpoint(all.next_address(), namespace))
                .collect();
            let slice = json!({
                "metadata": {"name": format!("{name}-{}", all.slices.len()), "namespace": namespace, "labels": labels},
                "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
            });
            all.slices.push(serde_json::from_value(slice).context("a slice")?);
            left -= count;
        }
        Ok(all)
    }

    /// All.
    #[must_use]
    pub fn all(&self) -> &[EndpointSlice] {
        &self.slices
    }

    /// Puts a new server into the place of another: the slice as it is then, and the server.
    pub fn replace_one(&mut self) -> (EndpointSlice, SocketAddrV4) {
        let address = self.next_address();
        let number = usize::try_from(self.used).unwrap_or_default();
        let at = number % self.slices.len();
        let slice = &mut self.slices[at];
        let place = (number / 7) % slice.endpoints.len();
        slice.endpoints[place].addresses = vec![address.to_string()];
        (slice.clone(), SocketAddrV4::new(address, PORT))
    }

    /// Addresses are never used again, so that what is new is told from what was there.
    fn next_address(&mut self) -> Ipv4Addr {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 0, 1)) + self.used);
        self.used += 1;
        address
    }
}

fn endpoint(address: Ipv4Addr, namespace: &str) -> Value {
    json!({
        "addresses": [address], "conditions": {"ready": true, "serving": true, "terminating": false},
        "targetRef": {"kind": "Pod", "namespace": namespace, "name": format!("made-up-{address}")},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_server_takes_the_place_of_another() {
        let mut slices = Slices::new(("web", "shop"), &json!({}), 250).unwrap();
        let sizes: Vec<usize> = slices.all().iter().map(|slice| slice.endpoints.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
        let (changed, server) = slices.replace_one();
        assert_eq!(server, "10.200.0.251:8080".parse().unwrap());
        let of = |slice: &EndpointSlice| {
            slice
                .endpoints
                .iter()
                .any(|it| it.addresses == [server.ip().to_string()])
        };
        assert!(of(&changed));
        assert_eq!(slices.all().iter().filter(|slice| of(slice)).count(), 1);
        assert_eq!(
            slices
                .all()
                .iter()
                .map(|slice| slice.endpoints.len())
                .sum::<usize>(),
            250
        );
    }
}
