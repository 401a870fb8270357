//! How many agents may be disturbed at once.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Wanted;

/// One at a time. An agent that serves nothing may go always: it would block the drain of its node for nothing.
pub(super) fn budget(wanted: &Wanted<'_>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: wanted.metadata(),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(wanted.label_selector()),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
