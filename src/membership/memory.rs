//! What earlier rounds saw, kept by whoever runs them and lost with the process.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::MemberId;

/// What earlier rounds of one cluster saw. A fresh one makes everything wait as after a change.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The last round.
    pub(super) last_round: Option<Timestamp>,
    /// Rounds follow each other without a gap since then.
    pub(super) watching_since: Option<Timestamp>,
    /// ID and learner flag of each member in the last list.
    pub(super) list: Vec<(MemberId, bool)>,
    /// Two lists of the last round differed.
    pub(super) lists_differed: bool,
    pub(super) leader: Option<MemberId>,
    /// The last change, what it was, and when the pause after it is over.
    pub(super) change: Option<Change>,
    /// The number of voters is even since then.
    pub(super) even_since: Option<Timestamp>,
    pub(super) members: BTreeMap<MemberId, MemberMemory>,
    pub(super) machines: BTreeMap<String, MachineMemory>,
}

/// Something after which there is a pause (I20).
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub what: String,
    pub until: Timestamp,
    /// Rounds with a quorum still to be seen.
    pub rounds: u8,
}

/// What earlier rounds saw of one member.
#[derive(Clone, Debug, Default)]
pub(super) struct MemberMemory {
    /// Every sample since then was good.
    pub good_since: Option<Timestamp>,
    /// It gave no answer since then, while others did.
    pub silent_since: Option<Timestamp>,
    /// Neither it nor its machine gave an answer since then, while others did.
    pub dark_since: Option<Timestamp>,
    /// Its applied index at the last answer.
    pub applied: Option<u64>,
    /// When it was first seen, last moved, or was last level with the leader.
    pub moved_at: Option<Timestamp>,
}

/// What earlier rounds saw of one machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MachineMemory {
    pub silent: bool,
    pub came_back: bool,
}

impl Memory {
    /// Since when a member and its machine are silent, to be written down (`silentSince`) so that
    /// the timer outlives this process.
    pub fn silent_since(&self, member: MemberId) -> Option<Timestamp> {
        self.members.get(&member)?.dark_since
    }
}
