//! The machines of a control plane: its inventory, and which of them serve at first.

use k8s_openapi::api::core::v1::Taint;

use crate::controllers::fields::{self, Checker};
use crate::crd::ControlPlaneSpec;
use crate::domain::Machine;

/// Checks every machine; the ones that parsed, in order.
pub fn inventory(checker: &mut Checker, spec: &ControlPlaneSpec) -> Vec<Machine> {
    let taints = match &spec.taints {
        Some(taints) => fields::taints(checker, "spec.taints", taints),
        None => {
            checker.note_default(
                "spec.taints",
                &"node-role.kubernetes.io/control-plane:NoSchedule",
            );
            vec![Taint {
                key: "node-role.kubernetes.io/control-plane".to_owned(),
                effect: "NoSchedule".to_owned(),
                ..Taint::default()
            }]
        }
    };
    let patches = fields::kubelet_patches(checker, "spec.patches", spec.patches.as_ref());
    fields::inventory(checker, &spec.machines, &taints, &patches)
}

/// Indices of the machines that serve when none has served yet.
pub fn choose_serving(inventory: &[Machine], count: usize) -> Vec<usize> {
    let domains = inventory
        .iter()
        .map(|machine| machine.failure_domain.as_deref());
    fields::spread(domains, count)
}
