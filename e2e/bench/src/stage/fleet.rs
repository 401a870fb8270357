//! A Service of made-up servers: no pod has their addresses, but whoever programs a kernel does not know that.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::Result;
use e2e::cluster::Space;
use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::slices::{PORT, Slices};
use super::watch::now;
use super::wire::Span;

/// So many requests are on their way at a time.
const AT_ONCE: usize = 8;

/// Who is to balance over the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Any kube-proxy.
    KubeProxy,
    /// No kube-proxy: the Service carries the label by which they leave it to others.
    Ours,
}

impl Audience {
    fn label(self, service: &str) -> Value {
        match self {
            Self::KubeProxy => json!({"kubernetes.io/service-name": service}),
            Self::Ours => json!({
                "kubernetes.io/service-name": service,
                "service.kubernetes.io/service-proxy-name": "portable-lb-bench",
            }),
        }
    }
}

/// A Service, and its slices as they were written last.
pub struct Fleet {
    /// The Service's name.
    pub name: String,
    slices: Slices,
}

/// A change that was written.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The server that is new.
    pub server: SocketAddrV4,
    /// When its writing began, in nanoseconds of the Unix epoch.
    pub begun: u64,
    /// When the API server had answered.
    pub written: u64,
}

impl Fleet {
    /// Makes the Service with so many servers.
    pub fn create(space: &Space<'_>, name: &str, size: usize, audience: Audience) -> Result<Self> {
        let labels = audience.label(name);
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": PORT}]},
        });
        space.apply(&service.to_string())?;
        let fleet = Self {
            name: name.to_owned(),
            slices: Slices::new((name, &space.name), &labels, size)?,
        };
        space.run(|client| fleet.write_all(client, &space.name))?;
        Ok(fleet)
    }

    async fn write_all(&self, client: Client, namespace: &str) -> Result<()> {
        let api: Api<EndpointSlice> = Api::namespaced(client, namespace);
        let create = |slice: EndpointSlice| {
            let api = api.clone();
            async move { api.create(&PostParams::default(), &slice).await }
        };
        let all = stream::iter(self.slices.all().to_vec())
            .map(create)
            .buffer_unordered(AT_ONCE);
        all.try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    /// Puts new servers into the places of others, one after the other at an even pace, as when pods are replaced.
    /// What is to see them is told first.
    pub fn replace(
        &mut self,
        space: &Space<'_>,
        (count, pace): (u32, Duration),
        watch: impl FnOnce(Span) -> Result<()>,
    ) -> Result<Vec<Change>> {
        let changes: Vec<_> = (0..count).map(|_| self.slices.replace_one()).collect();
        let (Some((_, first)), Some((_, last))) = (changes.first(), changes.last()) else {
            return Ok(Vec::new());
        };
        watch(Span {
            first: *first,
            last: *last,
        })?;
        space.run(|client| async move {
            let api: Api<EndpointSlice> = Api::namespaced(client, &space.name);
            let start = tokio::time::Instant::now();
            let write = |(number, (slice, server)): (usize, (EndpointSlice, SocketAddrV4))| {
                let api = api.clone();
                let due = start + pace * u32::try_from(number).unwrap_or(u32::MAX);
                async move {
                    tokio::time::sleep_until(due).await;
                    let begun = now();
                    let name = slice.metadata.name.clone().unwrap_or_default();
                    api.replace(&name, &PostParams::default(), &slice).await?;
                    let written = now();
                    anyhow::Ok(Change {
                        server,
                        begun,
                        written,
                    })
                }
            };
            let all = stream::iter(changes.into_iter().enumerate())
                .map(write)
                .buffered(AT_ONCE);
            all.try_collect().await
        })
    }
}

/// How many changes a second it came to.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "a few thousand")]
pub fn rate(changes: &[Change]) -> f64 {
    let (Some(first), Some(last)) = (changes.first(), changes.last()) else {
        return 0.0;
    };
    let took = Duration::from_nanos(last.written.saturating_sub(first.begun));
    changes.len() as f64 / took.as_secs_f64().max(f64::EPSILON)
}

/// Our balancer in front of a fleet, with its one agent on this node.
#[must_use]
pub fn balancer(service: &str, node: &str) -> String {
    json!({
        "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer", "metadata": {"name": service},
        "spec": {
            "backends": {"type": "Service", "service": {"name": service}},
            "ports": [{"name": "http", "port": 80, "targetPort": PORT}],
            "scheduler": {"name": "rr"}, "redundancy": {"replicas": 1}, "exposure": {"type": "PodIP"},
            "agent": {"nodeSelector": {"kubernetes.io/hostname": node}},
        },
    })
    .to_string()
}
