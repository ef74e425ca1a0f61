//! What has to be issued.

use jiff::Timestamp;

use super::inventory::{self, Inventory, InventoryError};
use super::policy::{self, Verdict, Why};
use super::problem::{Defect, PkiProblem};
use super::secret_names::{self, CERTIFICATE, PRIVATE_KEY};
use super::state::PkiState;
use super::{Ca, CertSpec, Leaf};
use crate::domain::{ControlPlane, NodeName};

/// Something to issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PkiStep {
    /// Create the Secret of a CA. Never replaces one.
    IssueCa(Ca),
    /// Create the Secret of the service-account keys. Never replaces one.
    IssueServiceAccount,
    /// Put a leaf into the Secret of a machine's certificates.
    IssueLeaf {
        machine: NodeName,
        leaf: Leaf,
        spec: CertSpec,
        why: Why,
    },
    /// Make the client pair for the administrators' kubeconfig, and write that Secret.
    IssueClusterAdmin { why: Why },
    /// A stored leaf stays as it is.
    Keep { machine: NodeName, leaf: Leaf },
}

/// The steps in the order in which they must be taken, CAs first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PkiPlan {
    pub steps: Vec<PkiStep>,
    /// While there is one, nothing may be issued and nothing rendered.
    pub problems: Vec<PkiProblem>,
}

impl PkiPlan {
    /// Whether everything is stored that machines need, so that rendering may start.
    pub fn is_settled(&self) -> bool {
        self.problems.is_empty()
            && self
                .steps
                .iter()
                .all(|step| matches!(step, PkiStep::Keep { .. }))
    }
}

/// Plans what has to be issued for the machines of a control plane that serve.
///
/// `founded`: a machine may have booted from a published machine config. From then on CAs and
/// service-account keys are never made anew, and defective leaves are left to a person.
pub fn plan(
    control_plane: &ControlPlane,
    state: &PkiState,
    founded: bool,
    now: Timestamp,
) -> Result<PkiPlan, InventoryError> {
    let inventory = inventory::of_control_plane(control_plane)?;
    Ok(plan_for(inventory, state, founded, now))
}

/// Plans what has to be issued for an inventory; `founded` as for [`plan`].
pub fn plan_for(inventory: Inventory, state: &PkiState, founded: bool, now: Timestamp) -> PkiPlan {
    let mut plan = PkiPlan::default();
    for ca in inventory.cas {
        plan_ca(&mut plan, state, ca, founded, now);
    }
    if let Some(ca) = inventory.borrowed {
        // Never made here: what it signs is of use only with the etcd that has it.
        plan_ca(&mut plan, state, ca, true, now);
    }
    if inventory.service_account {
        plan_service_account(&mut plan, state, founded);
    }
    for (machine, leaves) in inventory.machines {
        let stored = state.leaves.get(&machine);
        for (leaf, spec) in leaves {
            let verdict = policy::leaf_verdict(
                &state.ca_secret(spec.signer),
                stored.and_then(|leaves| leaves.get(&leaf)),
                &spec,
                has_sound_ca(state, spec.signer),
                founded,
                now,
            );
            let machine = machine.clone();
            match verdict {
                Verdict::Keep => plan.steps.push(PkiStep::Keep { machine, leaf }),
                Verdict::Issue(why) => plan.steps.push(PkiStep::IssueLeaf {
                    machine,
                    leaf,
                    spec,
                    why,
                }),
                Verdict::Refuse(problem) => plan.problems.push(problem),
            }
        }
    }
    if inventory.cluster_admin {
        plan_cluster_admin(&mut plan, state, now);
    }
    plan
}

/// No machine boots from the administrators' kubeconfig, so it is made anew whenever it is of no
/// use.
fn plan_cluster_admin(plan: &mut PkiPlan, state: &PkiState, now: Timestamp) {
    let spec = inventory::cluster_admin();
    let verdict = policy::leaf_verdict(
        &state.ca_secret(spec.signer),
        state.cluster_admin.as_ref(),
        &spec,
        has_sound_ca(state, spec.signer),
        false,
        now,
    );
    if let Verdict::Issue(why) = verdict {
        plan.steps.push(PkiStep::IssueClusterAdmin { why });
    }
}

fn has_sound_ca(state: &PkiState, ca: Ca) -> bool {
    state.cas.get(&ca).is_some_and(Result::is_ok)
}

fn plan_ca(plan: &mut PkiPlan, state: &PkiState, ca: Ca, founded: bool, now: Timestamp) {
    let problem = |key: &str, defect| PkiProblem {
        secret: state.ca_secret(ca),
        key: key.to_owned(),
        defect,
    };
    match state.cas.get(&ca) {
        None if founded => plan.problems.push(problem(PRIVATE_KEY, Defect::Lost)),
        None => plan.steps.push(PkiStep::IssueCa(ca)),
        Some(Err(defective)) => plan.problems.push(defective.clone()),
        Some(Ok(stored)) => plan
            .problems
            .extend(policy::ca_defect(stored, now).map(|defect| problem(CERTIFICATE, defect))),
    }
}

fn plan_service_account(plan: &mut PkiPlan, state: &PkiState, founded: bool) {
    match &state.service_account {
        None if founded => plan.problems.push(PkiProblem {
            secret: secret_names::service_account(&state.name),
            key: PRIVATE_KEY.to_owned(),
            defect: Defect::Lost,
        }),
        None => plan.steps.push(PkiStep::IssueServiceAccount),
        Some(Err(defective)) => plan.problems.push(defective.clone()),
        Some(Ok(_)) => {}
    }
}

#[cfg(test)]
mod tests;
