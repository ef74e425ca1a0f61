//! A plan, carried out in memory. The caller writes what comes out, CAs first.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use super::{IssueError, Signer, issue_ca, issue_service_account, leaf_signed_by};
use crate::domain::{ControlPlane, NodeName};
use crate::pki::inventory::cluster_admin;
use crate::pki::plan::{PkiPlan, PkiStep};
use crate::pki::state::PkiState;
use crate::pki::{Ca, CertSpec, KeyPair, MachinePki, ServiceAccountKeys};

/// New certificates and keys. They must be stored before anything renders from them: CAs and
/// service-account keys by a create that fails if the Secret exists by then (discard everything in
/// that case and read again), machines by a conditional replace.
#[derive(Clone, Default)]
pub struct Issued {
    pub cas: BTreeMap<Ca, KeyPair>,
    pub service_account: Option<ServiceAccountKeys>,
    /// The machines whose Secret changes, each with all its leaves, kept ones included.
    pub machines: BTreeMap<NodeName, MachinePki>,
    /// For the administrators' kubeconfig.
    pub cluster_admin: Option<KeyPair>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issued(..)")
    }
}

/// Generates what `plan` asks for. Blocks, as everything in [`super`].
pub fn carry_out(
    control_plane: &ControlPlane,
    state: &PkiState,
    plan: &PkiPlan,
    now: Timestamp,
) -> Result<Issued, IssueError> {
    if !plan.problems.is_empty() {
        return Err(IssueError::Problems);
    }
    let algorithm = control_plane.key_algorithm;
    let mut issued = Issued::default();
    let mut signers = Signers {
        control_plane,
        state,
        loaded: BTreeMap::new(),
        now,
    };
    for step in &plan.steps {
        match step {
            PkiStep::IssueCa(ca) => {
                let pair = issue_ca(*ca, algorithm, control_plane.ca_validity, now)?;
                issued.cas.insert(*ca, pair);
            }
            PkiStep::IssueServiceAccount => {
                issued.service_account = Some(issue_service_account(algorithm)?);
            }
            PkiStep::IssueLeaf {
                machine,
                leaf,
                spec,
                ..
            } => {
                let pair = signers.issue(&issued.cas, spec)?;
                let leaves = issued.machines.entry(machine.clone()).or_default();
                leaves.insert(*leaf, pair);
            }
            PkiStep::IssueClusterAdmin { .. } => {
                issued.cluster_admin = Some(signers.issue(&issued.cas, &cluster_admin())?);
            }
            PkiStep::Keep { .. } => {}
        }
    }
    add_kept(state, plan, &mut issued.machines);
    Ok(issued)
}

/// Completes the machines that change with the leaves that they keep.
fn add_kept(state: &PkiState, plan: &PkiPlan, machines: &mut BTreeMap<NodeName, MachinePki>) {
    for step in &plan.steps {
        let PkiStep::Keep { machine, leaf } = step else {
            continue;
        };
        let stored = state
            .leaves
            .get(machine)
            .and_then(|leaves| leaves.get(leaf)?.as_ref().ok());
        if let (Some(stored), Some(leaves)) = (stored, machines.get_mut(machine)) {
            leaves.insert(*leaf, stored.pair.clone());
        }
    }
}

/// CAs, each loaded once.
struct Signers<'a> {
    control_plane: &'a ControlPlane,
    state: &'a PkiState,
    loaded: BTreeMap<Ca, Signer>,
    now: Timestamp,
}

impl Signers<'_> {
    fn issue(
        &mut self,
        new: &BTreeMap<Ca, KeyPair>,
        spec: &CertSpec,
    ) -> Result<KeyPair, IssueError> {
        if !self.loaded.contains_key(&spec.signer) {
            let stored = self.state.cas.get(&spec.signer);
            let stored = stored.and_then(|stored| Some(&stored.as_ref().ok()?.pair));
            let pair = new.get(&spec.signer).or(stored);
            let signer = Signer::load(pair.ok_or(IssueError::NoSigner)?)?;
            self.loaded.insert(spec.signer, signer);
        }
        let signer = self.loaded.get(&spec.signer).ok_or(IssueError::NoSigner)?;
        let control_plane = self.control_plane;
        leaf_signed_by(
            signer,
            spec,
            control_plane.key_algorithm,
            control_plane.leaf_validity,
            self.now,
        )
    }
}
