//! What the operator remembers from one report to the next. A new process starts with nothing, and loses nothing but time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::differ::Differ;
use super::drains::Drains;
use crd::PortableLoadBalancer;

/// What the operator itself wrote last, by balancer: its stores may not show it yet.
pub(crate) struct Memory {
    balancers: Mutex<HashMap<(String, String), Remembered>>,
    start: Time,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            balancers: Mutex::default(),
            start: super::now(),
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct Remembered {
    uid: String,
    /// The conditions written last, until the store shows them.
    pub(super) conditions: Option<Vec<Condition>>,
    /// How the agents' tables differ.
    pub(super) differ: Differ,
    /// What the agents told of drains.
    pub(super) drains: Drains,
}

impl Memory {
    /// When this process began.
    pub(super) fn start(&self) -> &Time {
        &self.start
    }

    pub(super) fn recall(&self, lb: &PortableLoadBalancer) -> Remembered {
        let uid = lb.uid().unwrap_or_default();
        let known = self
            .balancers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key(lb))
            .cloned();
        // One of the same name that is gone has nothing to say.
        known
            .filter(|known| known.uid == uid)
            .unwrap_or_else(|| Remembered {
                uid,
                ..Remembered::default()
            })
    }

    pub(super) fn keep(&self, lb: &PortableLoadBalancer, remembered: Remembered) {
        self.balancers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key(lb), remembered);
    }

    /// Drops what is known of a balancer that is gone.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.balancers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key);
    }
}

fn key(lb: &PortableLoadBalancer) -> (String, String) {
    (lb.namespace().unwrap_or_default(), lb.name_any())
}
