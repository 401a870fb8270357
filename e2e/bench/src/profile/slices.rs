//! A changed slice, all the way: from the API server's text to the kernel, and to what the agent says of it then.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use lb_agent::addresses::Addresses;
use lb_agent::converge::{Converger, Pace};
use lb_agent::dataplane::{Dataplane, Depth};
use lb_agent::endpoints::Slice;
use lb_agent::facts::{Fact, Facts, Wanted};
use lb_agent::report::{Situation, agent_status};
use lb_agent::trust::Trust;
use lb_agent::ways::Ways;
use serde_json::json;

use crate::stage::slices::{PORT, Slices};

/// The Service, and its namespace.
const SERVICE: &str = "web";
const NAMESPACE: &str = "shop";

/// What an agent knows. Its rules of iptables are left out: no change of a slice changes one.
pub(super) struct Agent {
    facts: Facts,
    addresses: Addresses,
    slices: BTreeMap<String, Arc<Slice>>,
    wanted: Option<Wanted>,
    converger: Converger,
}

impl Agent {
    /// One that has programmed these slices.
    pub(super) fn new(slices: &Slices) -> Result<Self> {
        let mut agent = Self {
            facts: Facts::default(),
            addresses: Addresses::from_iter([Ipv4Addr::new(10, 244, 0, 2).into()]),
            slices: BTreeMap::new(),
            wanted: None,
            converger: Converger::new(Dataplane::new(&[].into())),
        };
        let object = serde_json::from_value(json!({
            "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
            "metadata": {"name": SERVICE, "namespace": NAMESPACE, "generation": 1},
            "spec": {
                "backends": {"type": "Service", "service": {"name": SERVICE}},
                "ports": [{"name": "http", "port": 80, "targetPort": PORT}],
            },
        }))?;
        agent.take(Fact::Balancer(Box::new(object)));
        agent.take(Fact::Service(SERVICE.to_owned(), Some(Vec::new())));
        slices.all().iter().for_each(|slice| agent.keep(slice.clone()));
        agent.program(Depth::All)?;
        Ok(agent)
    }

    fn take(&mut self, fact: Fact) {
        self.facts.take(fact, &Trust::pods(NAMESPACE));
    }

    fn keep(&mut self, slice: EndpointSlice) {
        self.slices.insert(slice.name_any(), Arc::new(slice.into()));
    }

    /// Reads a slice as it is now, and does what the agent does then.
    pub(super) fn change(&mut self, text: &str) -> Result<()> {
        self.keep(serde_json::from_str(text)?);
        self.program(Depth::Draining)
    }

    fn program(&mut self, depth: Depth) -> Result<()> {
        self.take(Fact::Slices(
            SERVICE.to_owned(),
            self.slices.values().cloned().collect(),
            Instant::now(),
        ));
        let mut wanted = self
            .facts
            .wanted(&self.addresses, &Ways::default())
            .context("what is wanted is not known")?;
        wanted.desired.table.rules.clear();
        if let Some(before) = &self.wanted {
            wanted.desired.table.share(&before.desired.table);
        }
        let pace = Pace {
            drain: wanted.drain_timeout,
            warm_up: wanted.warm_up,
        };
        let converged = self.converger.converge(&wanted.desired.table, pace, depth)?;
        ensure!(converged.steps > 0, "there was nothing to do");
        self.facts.see(converged.observed.clone());
        let status = agent_status(&Situation {
            wanted: Some(&wanted),
            programmed: Some(wanted.generation),
            observed: Some(&converged.observed),
            ..Situation::default()
        });
        ensure!(status.table_hash.is_some(), "the status has no hash");
        self.wanted = Some(wanted);
        Ok(())
    }
}

/// Slices with so many servers.
pub(super) fn made_up(servers: usize) -> Result<Slices> {
    let labels = json!({"kubernetes.io/service-name": SERVICE});
    Slices::new((SERVICE, NAMESPACE), &labels, servers)
}
