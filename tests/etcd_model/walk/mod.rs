//! One walk: the same events in the model and in real processes, and every answer compared.

mod agreement;
mod calls;
mod choose;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use seedbed::domain::MemberId;

use self::choose::{Choice, beginning};
use crate::cluster::Cluster;
use crate::compare::Counts;
use crate::operator::{Mode, Operator};
use crate::state::{Kind, MACHINES, State};
use crate::testbed::StateDir;
use crate::world::Event;

const STEPS: usize = 10;
/// Entries of a log long enough for the changes of a walk to be less than a tenth of it: that much a
/// promoted member may be behind.
const ENTRIES: u32 = 400;
/// Until everybody agrees on what the model says: a member that starts waits for each stopped one.
const AGREEMENT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);
/// Until those that cannot be asked have noticed that a process is gone, too.
const NOTICE: Duration = Duration::from_millis(300);
/// Every connection older than this counts as old: etcd's own limit is 5 s.
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

    /// The real ID; of a member that never was, one that nobody has.
    fn id(&self, machine: u8, generation: bool) -> MemberId {
        let known = self.ids.get(&(machine, generation)).copied();
        known.unwrap_or(MemberId(0xdead_0000 + u64::from(machine)))
    }
}
