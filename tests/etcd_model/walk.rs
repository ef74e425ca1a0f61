//! One walk: the same events in the model and in real processes, and every answer compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use seedbed::domain::MemberId;
use seedbed::etcd::EtcdError;
use seedbed::membership::{Answer, ListedMember};

use crate::cluster::Cluster;
use crate::compare::{Counts, refusal};
use crate::etcd_rules::Refusal;
use crate::operator::{Mode, Operator};
use crate::state::{Disk, Kind, MACHINES, Machine, Op, State, View};
use crate::testbed::StateDir;
use crate::world::{self, Event};

const STEPS: usize = 10;
/// Entries of a log long enough for the changes of a walk to be less than a tenth of it: that much a
/// promoted member may be behind.
const ENTRIES: u32 = 400;
/// An ID is made of the address and the second: twice in one, it is the same.
const SECOND: Duration = Duration::from_millis(1100);
/// Until everybody agrees on what the model says: a member that starts waits for each stopped one.
const AGREEMENT: Duration = Duration::from_secs(60);
/// Until a call that an election fell into goes through.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(50);
/// Until those that cannot be asked have noticed that a process is gone, too.
const NOTICE: Duration = Duration::from_millis(300);
/// Between two tries of a call that an election fell into.
const AGAIN: Duration = Duration::from_millis(300);
/// etcd counts a connection of 5 s; in between nothing is compared that depends on it.
const YOUNG: Duration = Duration::from_millis(4700);
const OLD: Duration = Duration::from_millis(6000);

/// What became of a walk.
pub struct Walked {
    seed: u64,
    told: Vec<String>,
    pub counts: Counts,
    pub difference: Option<String>,
}

impl Walked {
    /// Step by step.
    pub fn told(&self) -> String {
        let end = self.difference.as_deref().unwrap_or("no difference");
        format!(
            "seed {}:\n  {}\n  => {end}",
            self.seed,
            self.told.join("\n  ")
        )
    }
}

struct Walk {
    cluster: Cluster,
    model: State,
    operator: Operator,
    rng: StdRng,
    ids: BTreeMap<(u8, bool), MemberId>,
    used: BTreeSet<MemberId>,
    /// Raft's term, and that in which a machine was last seen linked: what a leader knows of a
    /// member's log is lost with its term.
    term: u64,
    known_in: [u64; MACHINES],
    /// Its client port is open: a member that starts without a majority opens it later.
    serves: [bool; MACHINES],
    /// When a member was last added at its address.
    added: [Option<Instant>; MACHINES],
    /// The loss of the majority was looked at.
    silent: bool,
    /// Calls without a majority run into etcd's deadline; so many are made.
    slow: u8,
    told: Vec<String>,
    counts: Counts,
    began: Instant,
}

/// Walks; `place` says where.
pub fn walk(state: &StateDir, place: u8, seed: u64) -> Walked {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut rng = StdRng::seed_from_u64(seed);
    let model = beginning(&mut rng);
    let slow = u8::from(rng.random_bool(0.2));
    let cluster = Cluster::new(state, place, &format!("walk-{seed}")).expect("a cluster");
    let mut walk = Walk {
        cluster,
        model,
        operator: Operator::new(Mode::AnyStep, None),
        rng,
        ids: BTreeMap::new(),
        used: BTreeSet::new(),
        term: 0,
        known_in: [0; MACHINES],
        serves: [false; MACHINES],
        added: [None; MACHINES],
        silent: false,
        slow,
        told: Vec::new(),
        counts: Counts::default(),
        began: Instant::now(),
    };
    let difference = runtime.block_on(walk.run()).err();
    let difference = difference.map(|error| {
        let tail = |machine: u8| format!("m{machine}: {}", walk.cluster.log_tail(machine));
        let logs: Vec<String> = (0..walk.model.count).map(tail).collect();
        walk.tell(format!("{:?}\n{}", walk.model, logs.join("\n")));
        format!("{error:#}")
    });
    drop(runtime);
    walk.cluster.end().expect("an end");
    Walked {
        seed,
        told: walk.told,
        counts: walk.counts,
        difference,
    }
}

/// Founders, spares, and whether the last founder is late.
const BEGINNINGS: [(u8, u8, bool); 10] = [
    (1, 3, false),
    (1, 3, false),
    (1, 2, false),
    (2, 2, false),
    (3, 1, false),
    (3, 2, false),
    (3, 2, false),
    (3, 1, true),
    (4, 1, false),
    (5, 0, false),
];

fn beginning(rng: &mut StdRng) -> State {
    let (founders, spares, late) = *BEGINNINGS.choose(rng).expect("beginnings");
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
    State {
        machines,
        count: founders + spares,
        leader: Some(0),
        size: 3,
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

/// Least and most age of one member's connection to each machine.
type Ages = Vec<Option<[Duration; 2]>>;

#[derive(Clone, Copy, Debug)]
enum Choice {
    Call(Op),
    Happen(Event, State),
    Wait,
}

impl Walk {
    fn tell(&mut self, what: String) {
        let at = self.began.elapsed().as_secs_f32();
        self.told.push(format!("[{at:5.1} s] {what}"));
    }

    async fn run(&mut self) -> Result<()> {
        let founders: Vec<u8> = self.listed().collect();
        for machine in &founders {
            if self.model.get(*machine).runs() {
                self.cluster.start_new(*machine, &founders, false)?;
            }
        }
        self.tell(format!("founded by {founders:?} of {}", self.model.count));
        self.settle().await?;
        self.cluster.write(0, ENTRIES).await?;
        if self.rng.random_bool(0.5) {
            self.wait().await;
        }
        for _ in 0..STEPS {
            let Some(choice) = self.choose() else {
                break;
            };
            match choice {
                Choice::Call(op) => self.call(op).await?,
                Choice::Happen(event, next) => self.happen(event, next).await?,
                Choice::Wait => self.wait().await,
            }
            self.settle().await?;
        }
        Ok(())
    }

    fn listed(&self) -> impl Iterator<Item = u8> {
        let listed: Vec<u8> = self
            .model
            .all()
            .filter(|(_, row)| row.kind.listed())
            .map(|(machine, _)| machine)
            .collect();
        listed.into_iter()
    }

    /// One of everything that can happen, the telling more often.
    fn choose(&mut self) -> Option<Choice> {
        let mut choices: Vec<(u32, Choice)> = Vec::new();
        let works = self.model.works();
        let mut next = Vec::new();
        let ready = State {
            faults: 7,
            ..self.model
        };
        world::successors(&ready, &mut self.operator, &mut next);
        for (event, after) in next {
            let Ok(after) = after else { continue };
            let weight = match event {
                Event::Start(machine) => match self.model.get(machine).kind {
                    // It learns from another that runs whom it belongs to, and ends without.
                    Kind::VoterUnstarted if self.open(machine).is_empty() => continue,
                    Kind::Unstarted | Kind::VoterUnstarted => 16,
                    // An ID that has started would begin anew on an empty disk.
                    _ => continue,
                },
                Event::BootAgain(_) => 10,
                Event::Renew(_) => 4,
                // What becomes of a spare makes no difference to etcd.
                Event::Crash(machine, _) | Event::Lose(machine)
                    if !self.model.get(machine).kind.listed() =>
                {
                    continue;
                }
                Event::Crash(..) => 2,
                Event::Lose(_) | Event::Exchange(_) => 1,
                _ => continue,
            };
            choices.push((weight, Choice::Happen(event, after)));
        }
        if works || self.slow > 0 {
            let ops = every_op(&self.model).into_iter();
            choices.extend(ops.map(|(weight, op)| (weight, Choice::Call(op))));
        }
        if works {
            choices.push((5, Choice::Wait));
        }
        let total: u32 = choices.iter().map(|(weight, _)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut at = self.rng.random_range(0..total);
        choices.into_iter().find_map(|(weight, choice)| {
            let here = at < weight;
            at = at.saturating_sub(weight);
            here.then_some(choice)
        })
    }

    /// Until every connection is old, and every stopped process missed.
    async fn wait(&mut self) {
        self.tell("wait".to_owned());
        let runs = |machine: &u8| self.cluster.is_running(*machine);
        let missing = |machine| OLD.saturating_sub(self.cluster.age(machine)[0]);
        let longest = (0..self.model.count).filter(runs).map(missing).max();
        tokio::time::sleep(longest.unwrap_or_default()).await;
    }

    /// A fault or a repair.
    async fn happen(&mut self, event: Event, after: State) -> Result<()> {
        self.tell(format!("{event:?}"));
        self.counts.events += 1;
        let row = *self.model.get(match event {
            Event::Crash(m, _) | Event::Lose(m) | Event::Exchange(m) => m,
            Event::BootAgain(m) | Event::Renew(m) | Event::Start(m) => m,
            other => bail!("{other:?} is not played"),
        });
        match event {
            Event::Crash(machine, true) => self.kill(machine).await?,
            Event::Crash(machine, false) if row.runs() => self.cluster.freeze(machine)?,
            Event::Lose(machine) => {
                self.kill(machine).await?;
                self.cluster.wipe(machine)?;
            }
            Event::Renew(machine) => self.cluster.wipe(machine)?,
            Event::BootAgain(machine) => {
                self.kill(machine).await?;
                if after.get(machine).runs() {
                    self.cluster.start_again(machine)?;
                    self.serves[usize::from(machine)] = false;
                }
            }
            Event::Start(machine) => {
                let members: Vec<u8> = self.listed().collect();
                self.cluster.start_new(machine, &members, true)?;
                self.has_data(machine).await?;
            }
            _ => {}
        }
        self.model = State { faults: 0, ..after };
        if let Event::Start(machine) = event {
            // Its log is short, and its config has nothing to do with etcd.
            let row = self.model.at(machine);
            if row.kind == Kind::Behind {
                row.kind = Kind::CaughtUpGuarded;
            }
        }
        Ok(())
    }

    /// Until then a member that is killed has not started yet: it asks the others first.
    async fn has_data(&self, machine: u8) -> Result<()> {
        let until = Instant::now() + AGREEMENT;
        while !self.cluster.has_data(machine) {
            ensure!(self.cluster.is_running(machine), "m{machine} ended");
            ensure!(Instant::now() < until, "m{machine} has no data");
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    /// Kills it, and waits until the others have noticed.
    async fn kill(&mut self, machine: u8) -> Result<()> {
        if !self.cluster.is_running(machine) {
            return Ok(());
        }
        self.cluster.kill(machine)?;
        self.serves[usize::from(machine)] = false;
        let until = Instant::now() + AGREEMENT;
        while let Err(error) = self.missed(machine).await {
            ensure!(Instant::now() < until, "{error:#}");
            tokio::time::sleep(TICK).await;
        }
        tokio::time::sleep(NOTICE).await;
        Ok(())
    }

    /// Nobody whose metrics would tell counts it as connected.
    async fn missed(&self, machine: u8) -> Result<()> {
        let id = self.id(machine, self.model.get(machine).generation);
        for (other, peers) in self.peers(machine).await {
            let sees = peers?.contains(&id);
            let tells = !self.cluster.learned(other);
            ensure!(!sees || !tells, "m{other} still sees m{machine}");
        }
        Ok(())
    }

    /// Who can be asked, `but` one.
    fn open(&self, but: u8) -> Vec<u8> {
        let open = |(machine, row): (u8, &Machine)| {
            let open = row.linked() && self.serves[usize::from(machine)];
            (open && machine != but).then_some(machine)
        };
        self.model.all().filter_map(open).collect()
    }

    /// Whom everybody but one counts as connected, by its own metrics.
    async fn peers(&self, but: u8) -> Vec<(u8, Result<BTreeSet<MemberId>>)> {
        let api = &self.cluster.api();
        let asked = self.open(but).into_iter().map(|machine| async move {
            let peers = api.active_peers(&self.cluster.endpoint(machine)).await;
            (
                machine,
                peers.map_err(|error| anyhow!("m{machine}: {error}")),
            )
        });
        join_all(asked).await
    }

    /// Everybody who can be asked is connected to all that run, and to none that does not; only from
    /// then on their connections age. One that was stopped may count either way.
    async fn connected(&mut self) -> Result<()> {
        for (machine, peers) in self.peers(u8::MAX).await {
            let peers = peers?;
            for (other, row) in self.model.all() {
                let stopped = self.cluster.is_frozen(other);
                if other == machine || !row.kind.listed() || stopped {
                    continue;
                }
                let sees = peers.contains(&self.id(other, row.generation));
                if sees && self.cluster.learned(machine) {
                    continue;
                }
                ensure!(sees == row.linked(), "m{machine} sees m{other}: {sees}");
            }
        }
        for machine in self.open(u8::MAX) {
            self.cluster.joined(machine);
        }
        Ok(())
    }

    /// How old the connections of `asked` to each machine are: at least and at most; `None` where
    /// there is none. A stopped process stays connected: its kernel answers for it.
    fn ages(&self, asked: u8) -> Ages {
        let age = |machine| {
            let runs = self.cluster.is_running(machine);
            let met = runs && !self.cluster.never_met(machine, asked);
            met.then(|| self.cluster.age(machine))
        };
        (0..self.model.count).map(age).collect()
    }

    /// What the model answers when connections of these ages are `later` older: twice, because a
    /// connection between two ages may be taken for young or old.
    fn answers(&self, op: Op, asked: u8, ages: &Ages, later: Duration) -> [Result<(), Refusal>; 2] {
        [false, true].map(|late| {
            let mut state = self.model;
            for (machine, age) in (0..).zip(ages) {
                state.at(machine).view = match age.map(|age| age.map(|age| age + later)) {
                    None => View::Down,
                    Some([least, most]) if least > OLD || (late && most > YOUNG) => View::Steady,
                    Some(_) => View::Fresh,
                };
            }
            world::answer(&state, op, asked)
        })
    }

    /// What the model answers, and by which ages; waits while that depends on a moment.
    async fn expected(&mut self, op: Op, asked: u8) -> (Result<(), Refusal>, Ages) {
        loop {
            let ages = self.ages(asked);
            let [early, late] = self.answers(op, asked, &ages, Duration::ZERO);
            if early == late {
                return (early, ages);
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn call(&mut self, op: Op) -> Result<()> {
        let open = |m: &u8| self.model.get(*m).linked() && self.serves[usize::from(*m)];
        let of_none = self
            .listed()
            .find(|m| open(m) && self.model.get(*m).kind.votes());
        let asked = world::asked(&self.model, op).filter(open).or(of_none);
        let Some(asked) = asked else {
            return Ok(());
        };
        if self.is_left_out(op) {
            self.counts.left_out += 1;
            return Ok(());
        }
        let (expected, ages) = self.expected(op, asked).await;
        let aged = Instant::now();
        if expected == Err(Refusal::NoQuorum) {
            if self.slow == 0 {
                return Ok(());
            }
            self.slow -= 1;
        }
        if let Op::Add(machine) = op {
            let added = &mut self.added[usize::from(machine)];
            let pause = added.map_or(Duration::ZERO, |at| SECOND.saturating_sub(at.elapsed()));
            tokio::time::sleep(pause).await;
            *added = Some(Instant::now());
        }
        let answered = self.answered(op, asked, expected).await?;
        let said = match answered {
            Ok(()) => "accepted".to_owned(),
            Err(refusal) => format!("{refusal:?}"),
        };
        self.tell(format!("m{asked} is asked for {op:?}: {said}"));
        if answered != expected {
            // On a busy machine a connection can become old on the way to etcd.
            let answers = self.answers(op, asked, &ages, aged.elapsed());
            ensure!(
                answers.contains(&answered),
                "{op:?} through m{asked}: {said}, the model says {expected:?}"
            );
            self.counts.grown_old += 1;
        }
        *self.counts.answers.entry(said).or_default() += 1;
        if answered.is_ok() {
            self.applied(op).await?;
        }
        Ok(())
    }

    /// A new leader has not heard of a member that is silent since before it led: it refuses to
    /// promote what its predecessor would have. The model knows only one leader's memory.
    fn is_left_out(&self, op: Op) -> bool {
        let Op::Promote(machine, g) = op else {
            return false;
        };
        let row = self.model.get(machine);
        row.generation == g
            && row.kind.started()
            && !row.linked()
            && self.known_in[usize::from(machine)] != self.term
    }

    /// Makes the call; again, as the operator would, when an election or a lagging log answers.
    async fn answered(
        &mut self,
        op: Op,
        asked: u8,
        expected: Result<(), Refusal>,
    ) -> Result<Result<(), Refusal>> {
        let until = Instant::now() + PATIENCE;
        loop {
            let Err(error) = self.ask(op, asked).await else {
                return Ok(Ok(()));
            };
            let text = error.to_string();
            let election = ["leader changed", "possibly due to", "not leader"]
                .iter()
                .any(|part| text.contains(part));
            // etcd waits for a majority as long as the client does.
            let cut_off = ["no answer from", "Timeout expired"]
                .iter()
                .any(|part| text.contains(part));
            let said = if cut_off && matches!(op, Op::Move(..)) {
                Ok(Refusal::TransferTimedOut)
            } else if election || cut_off {
                Ok(Refusal::NoQuorum)
            } else {
                refusal(&error)
            };
            let again = match &said {
                Ok(Refusal::NoQuorum) => expected != Err(Refusal::NoQuorum),
                Ok(Refusal::NotInSync) => expected != Err(Refusal::NotInSync),
                _ => false,
            };
            if again && Instant::now() < until {
                self.counts.repeated += 1;
                if self.shows(op, asked).await {
                    return Ok(Ok(()));
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            return said
                .map(Err)
                .map_err(|text| anyhow!("{op:?} through m{asked}: {text}"));
        }
    }

    /// The list tells what became of a call.
    async fn shows(&self, op: Op, asked: u8) -> bool {
        let endpoint = self.cluster.endpoint(asked);
        let Ok(answer) = self.cluster.api().probe(&endpoint).await else {
            return false;
        };
        let list = answer.members.unwrap_or_default();
        match op {
            Op::Add(machine) => {
                let url = self.cluster.peer_url(machine);
                !self.model.get(machine).kind.listed()
                    && list.iter().any(|row| row.peer_urls.contains(&url))
            }
            Op::Promote(machine, g) => {
                let id = self.id(machine, g);
                self.model.get(machine).kind.learns()
                    && list.iter().any(|row| row.id == id && !row.is_learner)
            }
            Op::Remove(machine, g) => {
                let id = self.id(machine, g);
                let row = self.model.get(machine);
                row.kind.listed()
                    && row.generation == g
                    && !list.is_empty()
                    && list.iter().all(|row| row.id != id)
            }
            Op::Move(_, to) => answer.leader == Some(self.id(to, self.model.get(to).generation)),
        }
    }

    async fn ask(&self, op: Op, asked: u8) -> Result<(), EtcdError> {
        let (api, through) = (self.cluster.api(), self.cluster.endpoint(asked));
        match op {
            Op::Add(machine) => {
                let url = self.cluster.peer_url(machine);
                api.add_learner(&through, &url).await
            }
            Op::Promote(machine, g) => api.promote(&through, self.id(machine, g)).await,
            Op::Remove(machine, g) => api.remove(&through, self.id(machine, g)).await,
            Op::Move(_, to) => {
                let to = self.id(to, self.model.get(to).generation);
                api.move_leader(&through, to).await
            }
        }
    }

    /// The real ID; of a member that never was, one that nobody has.
    fn id(&self, machine: u8, generation: bool) -> MemberId {
        let known = self.ids.get(&(machine, generation)).copied();
        known.unwrap_or(MemberId(0xdead_0000 + u64::from(machine)))
    }

    async fn applied(&mut self, op: Op) -> Result<()> {
        self.model = world::verified(world::applied(self.model, op), op);
        match op {
            Op::Add(machine) => {
                // The parity of its generation is that of a member before it.
                let generation = self.model.get(machine).generation;
                self.ids.remove(&(machine, generation));
            }
            Op::Remove(machine, _) => {
                if self.cluster.is_running(machine) && !self.cluster.is_frozen(machine) {
                    self.ends(machine).await?;
                }
                self.kill(machine).await?;
            }
            Op::Promote(..) | Op::Move(..) => {}
        }
        Ok(())
    }

    /// A removed member ends by itself.
    async fn ends(&mut self, machine: u8) -> Result<()> {
        let until = Instant::now() + AGREEMENT;
        while self.cluster.is_running(machine) {
            ensure!(
                Instant::now() < until,
                "m{machine} was removed and still runs"
            );
            tokio::time::sleep(TICK).await;
        }
        self.counts.ends += 1;
        Ok(())
    }

    /// Waits until everybody says what the model says.
    async fn settle(&mut self) -> Result<()> {
        let until = Instant::now() + AGREEMENT;
        let works = self.model.works();
        loop {
            let compared = if works {
                self.agree().await
            } else {
                self.stands_still().await
            };
            match compared {
                Ok(()) => {
                    self.silent = !works;
                    return Ok(());
                }
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => tokio::time::sleep(TICK).await,
            }
        }
    }

    fn check_processes(&self) -> Result<()> {
        for (machine, row) in self.model.all() {
            let runs = self.cluster.is_running(machine) && !self.cluster.is_frozen(machine);
            ensure!(runs == row.runs(), "m{machine} runs: {runs}");
        }
        Ok(())
    }

    async fn probes(&self, machines: Vec<u8>) -> Vec<(u8, Result<Answer, EtcdError>)> {
        let api = &self.cluster.api();
        let asked = machines.into_iter().map(|machine| async move {
            let answer = api.probe(&self.cluster.endpoint(machine)).await;
            (machine, answer)
        });
        join_all(asked).await
    }

    /// With a majority: one leader that votes and runs, and everybody's list is the model's.
    async fn agree(&mut self) -> Result<()> {
        self.check_processes()?;
        let linked = |(machine, row): (u8, &Machine)| row.linked().then_some(machine);
        let linked: Vec<u8> = self.model.all().filter_map(linked).collect();
        let answers = self.probes(linked).await;
        let (mut leaders, mut term) = (BTreeSet::new(), 0);
        let (mut lists, asked) = (0, answers.len());
        for (machine, answer) in answers {
            let answer = answer.map_err(|error| anyhow!("m{machine}: {error}"))?;
            let row = *self.model.get(machine);
            ensure!(answer.is_learner == row.kind.learns(), "m{machine}'s role");
            leaders.insert(
                answer
                    .leader
                    .with_context(|| format!("m{machine}: no leader"))?,
            );
            term = answer.raft_term.max(term);
            if let Ok(list) = &answer.members {
                self.same(list)
                    .with_context(|| format!("m{machine}'s list"))?;
                lists += 1;
            } else {
                ensure!(row.kind.learns(), "m{machine}: {:?}", answer.members);
            }
            let id = self.id(machine, row.generation);
            ensure!(answer.member_id == id, "m{machine} is {}", answer.member_id);
        }
        ensure!(leaders.len() == 1, "leaders: {leaders:?}");
        let leader = self.model.all().find(|(machine, row)| {
            let id = self.id(*machine, row.generation);
            row.kind.votes() && row.linked() && leaders.contains(&id)
        });
        let leader = leader.map(|(machine, _)| machine);
        self.model.leader = Some(leader.context("the leader is no voter that runs")?);
        self.term = term;
        for (machine, row) in self.model.all() {
            if row.linked() {
                self.known_in[usize::from(machine)] = self.term;
                self.serves[usize::from(machine)] = true;
            }
        }
        self.connected().await?;
        self.counts.lists += lists;
        self.counts.leaders += asked;
        Ok(())
    }

    /// Without: no leader, and no list behind a linearizable read.
    async fn stands_still(&mut self) -> Result<()> {
        self.check_processes()?;
        self.connected().await?;
        if self.silent {
            return Ok(());
        }
        let answers = self.probes(self.open(u8::MAX)).await;
        let asked = answers.len();
        for (machine, answer) in answers {
            // A learner keeps the leader that it last heard of; its reads fail, too.
            let Ok(answer) = answer else { continue };
            let votes = self.model.get(machine).kind.votes();
            ensure!(!votes || answer.leader.is_none(), "m{machine} has a leader");
            ensure!(answer.members.is_err(), "m{machine} reads");
        }
        self.counts.leaders += asked;
        Ok(())
    }

    /// A list against the model's: addresses, roles, who has started, and IDs, which never return.
    fn same(&mut self, list: &[ListedMember]) -> Result<()> {
        for machine in 0..self.model.count {
            let url = self.cluster.peer_url(machine);
            let row = *self.model.get(machine);
            let listed = list.iter().find(|listed| listed.peer_urls.contains(&url));
            ensure!(
                listed.is_some() == row.kind.listed(),
                "m{machine} listed: {}",
                listed.is_some()
            );
            let Some(listed) = listed else { continue };
            ensure!(
                listed.is_learner == row.kind.learns(),
                "m{machine} learns: {}",
                listed.is_learner
            );
            ensure!(
                listed.name.is_empty() == (row.kind.learns() && !row.kind.started()),
                "m{machine} is named {:?}",
                listed.name
            );
            let key = (machine, row.generation);
            match self.ids.get(&key) {
                Some(id) => ensure!(*id == listed.id, "m{machine} is {}, was {id}", listed.id),
                None => {
                    ensure!(self.used.insert(listed.id), "ID {} is back", listed.id);
                    self.ids.insert(key, listed.id);
                }
            }
        }
        ensure!(list.len() == self.listed().count(), "strangers in {list:?}");
        Ok(())
    }
}

/// Every change that can be asked for, with how often.
fn every_op(state: &State) -> Vec<(u32, Op)> {
    let mut ops = Vec::new();
    for (machine, row) in state.all() {
        let (current, g) = (row.kind.listed(), row.generation);
        let clean = row.disk == Disk::Empty && !current;
        ops.push((if clean { 6 } else { 1 }, Op::Add(machine)));
        ops.push((
            if row.kind.learns() { 10 } else { 1 },
            Op::Promote(machine, g),
        ));
        ops.push((if current { 3 } else { 1 }, Op::Remove(machine, g)));
        ops.push((u32::from(current), Op::Remove(machine, !g)));
        if let Some(leader) = state.leader
            && leader != machine
            && current
        {
            ops.push((1, Op::Move(leader, machine)));
        }
    }
    ops
}
