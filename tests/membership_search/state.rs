//! One state of the world, the operator's records included, in 128 bits.

/// Most machines of a scenario.
pub const MACHINES: usize = 5;

/// What the cluster lists for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    None,
    /// A learner in no slot of the ledger.
    Unrecorded,
    /// A learner that never started.
    Unstarted,
    /// A learner that runs, has yet to catch up, and whose published config does not check its disk.
    Behind,
    BehindGuarded,
    CaughtUp,
    CaughtUpGuarded,
    Voter,
    /// A voter whose published config does not check its disk.
    VoterUnguarded,
    /// A founder that never started.
    VoterUnstarted,
    /// A founder that has started, unseen: its published config makes it ask the others.
    FounderUnguarded,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::None,
        Self::Unrecorded,
        Self::Unstarted,
        Self::Behind,
        Self::BehindGuarded,
        Self::CaughtUp,
        Self::CaughtUpGuarded,
        Self::Voter,
        Self::VoterUnguarded,
        Self::VoterUnstarted,
        Self::FounderUnguarded,
    ];

    pub fn votes(self) -> bool {
        matches!(
            self,
            Self::Voter | Self::VoterUnguarded | Self::VoterUnstarted | Self::FounderUnguarded
        )
    }

    pub fn listed(self) -> bool {
        self != Self::None
    }

    pub fn learns(self) -> bool {
        self.listed() && !self.votes()
    }

    pub fn started(self) -> bool {
        !matches!(
            self,
            Self::None | Self::Unrecorded | Self::Unstarted | Self::VoterUnstarted
        )
    }

    pub fn caught_up(self) -> bool {
        matches!(self, Self::CaughtUp | Self::CaughtUpGuarded)
    }

    pub fn guarded(self) -> bool {
        matches!(
            self,
            Self::BehindGuarded | Self::CaughtUpGuarded | Self::Voter
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Power {
    Up,
    Down,
    /// For good.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Disk {
    Empty,
    /// Of the member that is listed.
    Current,
    /// Of a member that was removed.
    Old,
}

/// The others' view of a voter's connection: 5 s behind when it is there, and minutes when it is
/// not and nothing has closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum View {
    Down,
    Fresh,
    Steady,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    pub kind: Kind,
    pub power: Power,
    pub disk: Disk,
    pub view: View,
    /// Parity of the member's generation: tells it from the last one of this machine.
    pub generation: bool,
    pub cut_from_seed: bool,
    pub cut_from_peers: bool,
    /// Silent (or, a learner, without progress) for longer than the operator waits.
    pub late: bool,
    pub leaving: bool,
    pub attempts: u8,
}

/// What the operator has recorded, or what is on its way to etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Add(u8),
    /// Machine and generation.
    Promote(u8, bool),
    Remove(u8, bool),
    /// From, to.
    Move(u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub machines: [Machine; MACHINES],
    /// How many of them are in the scenario.
    pub count: u8,
    pub leader: Option<u8>,
    pub size: u8,
    /// Too soon after a change (I20).
    pub unsettled: bool,
    /// A change of ours was applied and etcd's 5 s view has not caught up with it.
    pub blind: bool,
    pub pending: Option<Op>,
    /// The call of the recorded operation was made a moment ago.
    pub in_flight: bool,
    /// A call that got no answer and may still come through.
    pub limbo: Option<Op>,
    /// A fault has happened since that call was sent.
    pub fault_since: bool,
    /// Faults, changes of the spec and delayed calls that may still happen.
    pub faults: u8,
    pub specs: u8,
    pub delays: u8,
}

impl Machine {
    pub const SPARE: Self = Self {
        kind: Kind::None,
        power: Power::Up,
        disk: Disk::Empty,
        view: View::Down,
        generation: false,
        cut_from_seed: false,
        cut_from_peers: false,
        late: false,
        leaving: false,
        attempts: 0,
    };

    pub const VOTER: Self = Self {
        kind: Kind::Voter,
        disk: Disk::Current,
        view: View::Steady,
        ..Self::SPARE
    };

    /// Its etcd runs.
    pub fn runs(&self) -> bool {
        self.kind.started() && self.power == Power::Up && self.disk == Disk::Current
    }

    /// Its etcd runs and reaches the others.
    pub fn linked(&self) -> bool {
        self.runs() && !self.cut_from_peers
    }

    /// The others count it as connected.
    pub fn seen(&self) -> bool {
        self.linked() || self.view != View::Down
    }

    /// Its etcd answers the seed.
    pub fn answers(&self) -> bool {
        self.runs() && !self.cut_from_seed
    }

    /// Its kubelet answers the seed. A started member's boot ends on an empty disk, before that.
    pub fn machine_answers(&self) -> bool {
        let refused = self.kind.started() && self.disk == Disk::Empty;
        self.power == Power::Up && !self.cut_from_seed && !refused
    }

    fn pack(&self) -> u128 {
        let bits = [
            (self.kind as u128, 4),
            (self.power as u128, 2),
            (self.disk as u128, 2),
            (self.view as u128, 2),
            (u128::from(self.generation), 1),
            (u128::from(self.cut_from_seed), 1),
            (u128::from(self.cut_from_peers), 1),
            (u128::from(self.late), 1),
            (u128::from(self.leaving), 1),
            (u128::from(self.attempts), 2),
        ];
        bits.iter()
            .fold(0, |all, (value, width)| all << width | value)
    }

    fn unpack(mut bits: u128) -> Self {
        let mut take = |width: u32| {
            let value = bits & ((1 << width) - 1);
            bits >>= width;
            value as u8
        };
        let attempts = take(2);
        let leaving = take(1) == 1;
        let late = take(1) == 1;
        let cut_from_peers = take(1) == 1;
        let cut_from_seed = take(1) == 1;
        let generation = take(1) == 1;
        let view = [View::Down, View::Fresh, View::Steady][usize::from(take(2))];
        let disk = [Disk::Empty, Disk::Current, Disk::Old][usize::from(take(2))];
        let power = [Power::Up, Power::Down, Power::Lost][usize::from(take(2))];
        let kind = Kind::ALL[usize::from(take(4))];
        Self {
            kind,
            power,
            disk,
            view,
            generation,
            cut_from_seed,
            cut_from_peers,
            late,
            leaving,
            attempts,
        }
    }
}

const MACHINE_BITS: u32 = 17;

fn pack_op(op: Option<Op>) -> u128 {
    match op {
        None => 0,
        Some(Op::Add(machine)) => 1 | u128::from(machine) << 3,
        Some(Op::Promote(machine, g)) => 2 | u128::from(machine) << 3 | u128::from(g) << 6,
        Some(Op::Remove(machine, g)) => 3 | u128::from(machine) << 3 | u128::from(g) << 6,
        Some(Op::Move(from, to)) => 4 | u128::from(from) << 3 | u128::from(to) << 6,
    }
}

fn unpack_op(bits: u128) -> Option<Op> {
    let machine = (bits >> 3 & 7) as u8;
    let rest = (bits >> 6 & 7) as u8;
    match bits & 7 {
        1 => Some(Op::Add(machine)),
        2 => Some(Op::Promote(machine, rest == 1)),
        3 => Some(Op::Remove(machine, rest == 1)),
        4 => Some(Op::Move(machine, rest)),
        _ => None,
    }
}

impl State {
    /// A cluster that was founded and has settled; if the last founder is `late`, it has yet to start.
    pub fn founded(founders: u8, spares: u8, late: bool, size: u8) -> Self {
        let mut machines = [Machine::SPARE; MACHINES];
        for machine in machines.iter_mut().take(usize::from(founders)) {
            *machine = Machine::VOTER;
        }
        if late {
            machines[usize::from(founders) - 1] = Machine {
                kind: Kind::VoterUnstarted,
                ..Machine::SPARE
            };
        }
        Self {
            machines,
            count: founders + spares,
            leader: Some(0),
            size,
            unsettled: false,
            blind: false,
            in_flight: false,
            pending: None,
            limbo: None,
            fault_since: false,
            faults: 0,
            specs: 0,
            delays: 0,
        }
    }

    pub fn pack(&self) -> u128 {
        let mut bits = 0;
        for machine in &self.machines {
            bits = bits << MACHINE_BITS | machine.pack();
        }
        let rest = [
            (u128::from(self.leader.unwrap_or(7)), 3),
            (u128::from(self.size / 2), 2),
            (u128::from(self.unsettled), 1),
            (u128::from(self.blind), 1),
            (u128::from(self.in_flight), 1),
            (pack_op(self.pending), 9),
            (pack_op(self.limbo), 9),
            (u128::from(self.fault_since), 1),
            (u128::from(self.faults), 3),
            (u128::from(self.specs), 2),
            (u128::from(self.delays), 1),
            (u128::from(self.count), 3),
        ];
        rest.iter()
            .fold(bits, |all, (value, width)| all << width | value)
    }

    pub fn unpack(mut bits: u128) -> Self {
        let mut take = |width: u32| {
            let value = bits & ((1 << width) - 1);
            bits >>= width;
            value
        };
        let count = take(3) as u8;
        let delays = take(1) as u8;
        let specs = take(2) as u8;
        let faults = take(3) as u8;
        let fault_since = take(1) == 1;
        let limbo = unpack_op(take(9));
        let pending = unpack_op(take(9));
        let in_flight = take(1) == 1;
        let blind = take(1) == 1;
        let unsettled = take(1) == 1;
        let size = take(2) as u8 * 2 + 1;
        let leader = Some(take(3) as u8).filter(|leader| *leader != 7);
        let mut machines = [Machine::SPARE; MACHINES];
        for machine in machines.iter_mut().rev() {
            *machine = Machine::unpack(take(MACHINE_BITS));
        }
        Self {
            machines,
            count,
            leader,
            size,
            unsettled,
            blind,
            in_flight,
            pending,
            limbo,
            fault_since,
            faults,
            specs,
            delays,
        }
    }

    pub fn all(&self) -> impl Iterator<Item = (u8, &Machine)> {
        (0..self.count).zip(&self.machines)
    }

    pub fn at(&mut self, machine: u8) -> &mut Machine {
        &mut self.machines[usize::from(machine)]
    }

    pub fn get(&self, machine: u8) -> &Machine {
        &self.machines[usize::from(machine)]
    }

    pub fn voters(&self) -> usize {
        self.all()
            .filter(|(_, machine)| machine.kind.votes())
            .count()
    }

    /// Voters that run and reach each other.
    pub fn linked_voters(&self) -> usize {
        let linked = |m: &Machine| m.kind.votes() && m.linked();
        self.all().filter(|(_, machine)| linked(machine)).count()
    }

    /// Voters that may fail before nothing is agreed on any more; negative when that is so.
    pub fn tolerance(&self) -> i32 {
        self.linked_voters() as i32 - (self.voters() / 2 + 1) as i32
    }

    pub fn works(&self) -> bool {
        self.voters() > 0 && self.tolerance() >= 0
    }
}
