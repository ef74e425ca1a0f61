//! What is wanted: how many voters, on which machines.

/// The wish of the spec and of the marks on machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Goal {
    /// Number of voters: odd (etcd-membership B). An even one is wanted by nobody: nothing grows
    /// or shrinks towards it.
    pub size: usize,
    /// The inventory, in its order; machines without a member are spares.
    pub machines: Vec<Candidate>,
    /// A voter that is lost by silence or damage is removed; false: it is only reported
    /// (`nodeLoss.action: ReportOnly`). The word of a person or provider counts all the same.
    pub remove_lost: bool,
}

/// A machine of the inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Candidate {
    pub name: String,
    pub peer_url: String,
    pub failure_domain: Option<String>,
    pub marks: Marks,
    /// Learners of this machine that never started since it last worked. A voter removed as lost
    /// leaves [`MAX_ATTEMPTS`] - 1 here, so that its machine gets one attempt and other spares go
    /// first; a promotion sets it back to 0.
    pub attempts: u8,
    /// It answers now (kubelet or API server) after it was seen silent, or this operator has just
    /// started: one more attempt, whatever the number of attempts.
    pub came_back: bool,
}

/// What people and providers say about a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// It shall be taken away or imaged anew (`seedbed.dev/release-requested`).
    pub release_requested: Option<String>,
    /// It is confirmed gone (`seedbed.dev/machine-lost`).
    pub lost: Option<String>,
    /// Its disk is, or is about to be, imaged anew: its member's data is given up.
    pub reimaged: bool,
}

/// Learners that may fail to start on one machine before it has to show a sign of life
/// (etcd-membership I14).
pub const MAX_ATTEMPTS: u8 = 3;

impl Candidate {
    /// A learner may be added for it, as far as the machine itself is concerned.
    pub fn eligible(&self) -> bool {
        self.marks.release_requested.is_none()
            && self.marks.lost.is_none()
            && (self.attempts < MAX_ATTEMPTS || self.came_back)
    }
}

impl Goal {
    /// The machine of this name.
    pub fn machine(&self, name: &str) -> Option<&Candidate> {
        self.machines.iter().find(|machine| machine.name == name)
    }
}
