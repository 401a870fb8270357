//! What the program `lab-pod` does in the lab's pods: sandbox, web server, UDP server and client.
//! The client is used by the tests too, from outside the cluster.

pub mod client;
pub mod signals;
pub mod udp;
pub mod web;

/// Who answers: given by the pod's environment, so that a client can tell servers apart.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The pod's name.
    pub pod: String,
    /// Its node.
    pub node: String,
    /// Its address.
    pub ip: String,
}

impl Identity {
    /// Reads `POD_NAME`, `NODE_NAME` and `POD_IP`; what is missing is a dash.
    #[must_use]
    pub fn from_env() -> Self {
        let read = |name| std::env::var(name).unwrap_or_else(|_| "-".to_owned());
        Self {
            pod: read("POD_NAME"),
            node: read("NODE_NAME"),
            ip: read("POD_IP"),
        }
    }

    /// The line that is answered.
    #[must_use]
    pub fn line(&self) -> String {
        format!("pod={} node={} ip={}\n", self.pod, self.node, self.ip)
    }
}

/// The value of `key` in a line of `key=value` words, as [`Identity::line`] writes it.
#[must_use]
pub fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}
