//! What is known: the object, its Service and its slices. Pure; whoever watches them sends [`Fact`]s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crd::{PortableLoadBalancer, PortableLoadBalancerSpec};
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::ServicePort;

use crate::addresses::Addresses;
use crate::dataplane::Observed;
use crate::desired::{Desired, Held, Inputs, desired};
use crate::endpoints::Slice;
use crate::health::{Change, Checks, Health, Targets};
use crate::trust::Trust;
use crate::ways::Ways;

/// Something that was learnt.
#[derive(Clone, Debug)]
pub enum Fact {
    /// The object as it is now.
    Balancer(Box<PortableLoadBalancer>),
    /// The object can't be understood, for example because it is of a newer version.
    Unreadable {
        /// Its generation.
        generation: Option<i64>,
        /// Why.
        message: String,
    },
    /// The Service of this name: its ports, or `None` if there is no such Service.
    Service(String, Option<Vec<ServicePort>>),
    /// All slices of the Service of this name, and when they were learnt.
    Slices(String, Vec<Arc<Slice>>, Instant),
    /// New verdicts on servers.
    Health(Vec<Change>),
}

/// Why the newest object is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The object's generation.
    pub generation: Option<i64>,
    /// What is wrong with it.
    pub message: String,
}

#[derive(Clone, Debug)]
struct Balancer {
    spec: PortableLoadBalancerSpec,
    checks: Checks,
    generation: i64,
    trust: Trust,
}

/// What is known of a Service: its ports, if it is there, and its slices.
type Learnt<'a> = (Option<&'a [ServicePort]>, &'a [Arc<Slice>]);

/// All that is known.
#[derive(Debug, Default)]
pub struct Facts {
    balancer: Option<Balancer>,
    refusal: Option<Refusal>,
    service: Option<(String, Option<Vec<ServicePort>>)>,
    slices: Option<(String, Vec<Arc<Slice>>)>,
    health: Health,
    held: Held,
    /// The networks that servers by address have to be in now; `None`: the agent was told of no such.
    networks: Option<Vec<IpNetwork>>,
    /// When the oldest change of slices came that is not in the kernel yet.
    changed: Option<Instant>,
}

/// What is wanted of the kernel.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The table.
    pub desired: Desired,
    /// The object's generation.
    pub generation: i64,
    /// How long servers may drain.
    pub drain_timeout: Duration,
    /// How long the share of a new server grows.
    pub warm_up: Duration,
}

impl Facts {
    /// Takes a fact in. An object that is wrong does not displace the one that is served.
    pub fn take(&mut self, fact: Fact, trust: &Trust) {
        match fact {
            Fact::Balancer(object) => self.take_balancer(*object, trust.clone()),
            Fact::Unreadable { generation, message } => self.refusal = Some(Refusal { generation, message }),
            Fact::Service(name, ports) => self.service = Some((name, ports)),
            Fact::Slices(name, slices, learnt) => {
                self.slices = Some((name, slices));
                self.changed.get_or_insert(learnt);
            }
            Fact::Health(changes) => changes.into_iter().for_each(|change| self.health.take(change)),
        }
    }

    fn take_balancer(&mut self, object: PortableLoadBalancer, trust: Trust) {
        let generation = object.metadata.generation;
        // Those of the previous object, which is served while this one is wrong, have to be in them too.
        self.networks = trust.networks_now(object.status.as_ref());
        let problems = crd::validate::validate(&object);
        let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        problems.extend(trust.refusal(&object.spec));
        if problems.is_empty() {
            self.refusal = None;
            let generation = generation.unwrap_or_default();
            self.balancer = Some(Balancer {
                checks: Checks::new(&object.spec),
                spec: object.spec,
                generation,
                trust,
            });
        } else {
            self.refusal = Some(Refusal {
                generation,
                message: problems.join("; "),
            });
        }
    }

    /// Why the newest object is not served, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// When the oldest change of slices came that is not in the kernel yet; from now on it is.
    pub fn take_changed(&mut self) -> Option<Instant> {
        self.changed.take()
    }

    /// Takes what the kernel holds.
    pub fn see(&mut self, observed: Arc<Observed>) {
        self.held.see(observed);
    }

    /// Who is asked now. What was learnt of others is forgotten.
    pub fn asked(&mut self, targets: &Targets) {
        self.health.retain(targets);
        self.held.asked(targets, &self.health);
    }

    /// What is wanted; `None` until all of it is known, so that nothing is removed for want of knowledge.
    #[must_use]
    pub fn wanted(&self, addresses: &Addresses, ways: &Ways) -> Option<Wanted> {
        let balancer = self.balancer.as_ref()?;
        let (service_ports, slices) = match &balancer.spec.backends.service {
            Some(service) => self.service(&service.name)?,
            None => (None, &[][..]),
        };
        let desired = desired(&Inputs {
            spec: &balancer.spec,
            service_ports,
            slices,
            trust: &balancer.trust,
            addresses,
            ways,
            checks: &balancer.checks,
            health: &self.health,
            held: &self.held,
            networks: self.networks.as_deref(),
        });
        Some(Wanted {
            desired,
            generation: balancer.generation,
            drain_timeout: balancer.spec.drain_timeout(),
            warm_up: balancer.spec.warm_up(),
        })
    }

    /// The ports and slices of the Service of this name, as far as they are those that are known.
    fn service(&self, name: &str) -> Option<Learnt<'_>> {
        let (_, ports) = self.service.as_ref().filter(|(known, _)| known == name)?;
        let (_, slices) = self.slices.as_ref().filter(|(known, _)| known == name)?;
        Some((ports.as_deref(), slices))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::tests::{ready, slice};
    use serde_json::{Value, json};

    fn object(service: &str, port: i32) -> Fact {
        let text = format!(
            "{{apiVersion: portablelb.io/v1alpha1, kind: PortableLoadBalancer, metadata: {{name: web, generation: {port}}}, \
             spec: {{backends: {{service: {{name: {service}}}}}, ports: [{{name: http, port: {port}, targetPort: http}}]}}}}"
        );
        Fact::Balancer(Box::new(serde_yaml::from_str(&text).expect("an object")))
    }

    fn slices(service: &str) -> Fact {
        let slices = vec![Arc::new(slice("IPv4", 8080, ready(&["10.0.0.1"])).into())];
        Fact::Slices(service.into(), slices, Instant::now())
    }

    struct Scene(Facts);

    impl Scene {
        fn new() -> Self {
            Self(Facts::default())
        }

        fn take(&mut self, fact: Fact) -> Option<Wanted> {
            self.0.take(fact, &Trust::pods("shop"));
            self.0.wanted(&Addresses::default(), &Ways::default())
        }
    }

    #[test]
    fn nothing_is_wanted_until_all_is_known() {
        let mut scene = Scene::new();
        assert!(scene.take(slices("web")).is_none());
        assert!(scene.take(Fact::Service("web".into(), None)).is_none());
        let wanted = scene.take(object("web", 80)).expect("all is known");
        assert_eq!((wanted.generation, wanted.desired.table.server_count()), (80, 1));
    }

    #[test]
    fn what_is_known_of_another_service_is_not_used() {
        let mut scene = Scene::new();
        scene.take(object("web", 80));
        scene.take(Fact::Service("web".into(), None));
        assert!(scene.take(slices("old")).is_none());
        assert!(scene.take(slices("web")).is_some());
        assert!(scene.take(object("other", 80)).is_none());
    }

    #[test]
    fn a_wrong_object_leaves_the_last_good_one_in_place() {
        let mut scene = Scene::new();
        scene.take(object("web", 80));
        scene.take(Fact::Service("web".into(), None));
        scene.take(slices("web"));
        let wanted = scene.take(object("web", 70_000)).expect("the last good one");
        assert_eq!(wanted.generation, 80);
        assert_eq!(scene.0.refusal().expect("told").generation, Some(70_000));
        let newer = Fact::Unreadable {
            generation: Some(9),
            message: "unknown variant".into(),
        };
        assert_eq!(scene.take(newer).expect("the last good one").generation, 80);
        assert_eq!(scene.take(object("web", 81)).expect("the new one").generation, 81);
        assert_eq!(scene.0.refusal(), None);
    }

    /// An object whose servers are at these addresses, in an installation that now allows these networks.
    fn by_address(generation: i64, addresses: &[&str], networks: &[&str]) -> Fact {
        let endpoints: Vec<Value> = addresses.iter().map(|it| json!({"address": it})).collect();
        let object = json!({
            "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
            "metadata": {"name": "web", "generation": generation},
            "spec": {"backends": {"type": "Endpoints", "endpoints": endpoints}, "ports": [{"name": "http", "port": 80}]},
            "status": {"endpointNetworks": networks},
        });
        Fact::Balancer(Box::new(serde_json::from_value(object).expect("an object")))
    }

    #[test]
    fn servers_that_are_no_longer_allowed_go_and_the_others_stay() {
        let trust = Trust::Pods {
            namespace: "shop".into(),
            networks: vec!["10.0.0.0/8".parse().expect("a network")],
        };
        let mut facts = Facts::default();
        let mut served = |fact, trust: &Trust| {
            facts.take(fact, trust);
            let wanted = facts
                .wanted(&Addresses::default(), &Ways::default())
                .expect("known");
            let servers = wanted.desired.servers.iter().map(ToString::to_string);
            (wanted.generation, servers.collect::<Vec<_>>())
        };
        let both = ["10.1.0.1", "10.2.0.1"];
        let told = served(by_address(1, &both, &["10.0.0.0/8"]), &trust);
        assert_eq!(told, (1, vec!["10.1.0.1".to_owned(), "10.2.0.1".to_owned()]));
        let narrowed = (1, vec!["10.1.0.1".to_owned()]);
        assert_eq!(served(by_address(1, &both, &["10.1.0.0/16"]), &trust), narrowed);
        // An edit that is refused brings none of them back.
        let refused = by_address(2, &["192.0.2.1"], &["10.1.0.0/16"]);
        assert_eq!(served(refused, &trust), narrowed);
        // What the agent was not made for stays refused, whatever it is told.
        let more = by_address(3, &["192.0.2.1"], &["0.0.0.0/0"]);
        assert_eq!(served(more, &trust).0, 1);
        assert_eq!(served(by_address(4, &both, &[]), &Trust::All).1.len(), 2);
    }

    #[test]
    fn latency_counts_from_the_oldest_change() {
        let mut scene = Scene::new();
        scene.take(slices("web"));
        let first = scene.0.changed;
        scene.take(slices("web"));
        assert_eq!(scene.0.take_changed(), first);
        assert_eq!(scene.0.take_changed(), None);
    }
}
