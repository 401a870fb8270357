//! Objects as the stores keep them: as compressed text, a small part of the structs that it is read into.

use kube::runtime::reflector::{Lookup, store::Writer};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use lz4_flex::{compress_prepend_size, decompress_size_prepended};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use crd::names;

/// An object as compressed text, with what it is found by.
#[derive(Clone, Debug)]
pub struct Packed<K> {
    name: Box<str>,
    namespace: Option<Box<str>>,
    /// The UID of the balancer that it belongs to.
    balancer: Option<Box<str>>,
    text: Box<[u8]>,
    kind: PhantomData<K>,
}

impl<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned> Packed<K> {
    /// Packs an object.
    #[must_use]
    pub fn new(object: &K) -> Self {
        let meta = object.meta();
        let balancer = object.labels().get(names::UID_LABEL);
        Self {
            name: object.name_any().into(),
            namespace: meta.namespace.as_deref().map(Into::into),
            balancer: balancer.map(|uid| uid.as_str().into()),
            // All that was read can be written.
            text: compress_prepend_size(&serde_json::to_vec(object).unwrap_or_default()).into(),
            kind: PhantomData,
        }
    }

    /// Whether it belongs to the balancer of this UID.
    pub(crate) fn belongs_to(&self, uid: Option<&str>) -> bool {
        uid.is_some() && self.balancer.as_deref() == uid
    }

    /// The object. None would make `apply` write it again, but what was packed can be read.
    pub(crate) fn unpack(&self) -> Option<Arc<K>> {
        let text = decompress_size_prepended(&self.text).ok()?;
        serde_json::from_slice(&text).ok().map(Arc::new)
    }
}

/// What fills a store with packed objects.
pub(crate) fn packing<K>(mut writer: Writer<Packed<K>>) -> impl FnMut(&Event<K>) + Send
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    move |event| {
        writer.apply_watcher_event(&match event {
            Event::Apply(object) => Event::Apply(Packed::new(object)),
            Event::Delete(object) => Event::Delete(Packed::new(object)),
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(Packed::new(object)),
            Event::InitDone => Event::InitDone,
        });
    }
}

impl<K: Resource<DynamicType = ()>> Lookup for Packed<K> {
    type DynamicType = ();

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.name))
    }

    fn namespace(&self) -> Option<Cow<'_, str>> {
        self.namespace.as_deref().map(Cow::Borrowed)
    }

    fn resource_version(&self) -> Option<Cow<'_, str>> {
        None
    }

    fn uid(&self) -> Option<Cow<'_, str>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::{stamp, unchanged};
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn applied() -> ReplicaSet {
        let mut set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": "plb-web", "namespace": "agents", "labels": {names::UID_LABEL: "u1"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [
                {"name": "serve", "image": "agent:1", "resources": {"limits": {"memory": "64Mi"}}},
            ]}}},
        }))
        .expect("valid");
        stamp(&mut set);
        set
    }

    #[test]
    fn what_was_packed_is_unpacked_whole() {
        let set = applied();
        assert_eq!(Packed::new(&set).unpack().as_deref(), Some(&set));
    }

    #[test]
    fn a_change_by_others_shows_in_what_is_unpacked() {
        let wanted = applied();
        let mut live = wanted.clone();
        live.metadata.resource_version = Some("7".into());
        let unpacked = |live: &ReplicaSet| Packed::new(live).unpack().expect("it is there");
        assert!(unchanged(unpacked(&live).as_ref(), &wanted));
        let spec = live.spec.as_mut().expect("a spec");
        let pod = spec.template.as_mut().and_then(|it| it.spec.as_mut());
        pod.expect("a pod").containers[0].image = Some("other:1".into());
        assert!(!unchanged(unpacked(&live).as_ref(), &wanted));
    }

    #[test]
    fn an_object_is_found_by_its_name_and_belongs_to_its_balancer() {
        let packed = Packed::new(&applied());
        let found = packed.to_object_ref(());
        assert_eq!(
            (found.name.as_str(), found.namespace.as_deref()),
            ("plb-web", Some("agents"))
        );
        assert!(packed.belongs_to(Some("u1")) && !packed.belongs_to(Some("u2")));
        assert!(!Packed::new(&Pod::default()).belongs_to(None));
    }
}
