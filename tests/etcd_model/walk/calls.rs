//! Changes of membership: what etcd answers, and what the model does.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use seedbed::etcd::EtcdError;

use super::{AGREEMENT, OLD, TICK, Walk};
use crate::compare::refusal;
use crate::etcd_rules::Refusal;
use crate::state::{Op, View};
use crate::world;

/// An ID is made of the address and the second: twice in one, it is the same.
const SECOND: Duration = Duration::from_millis(1100);
/// Until a call that an election fell into goes through.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries of a call that an election fell into.
const AGAIN: Duration = Duration::from_millis(300);
/// A connection is young up to this age; from then until [`OLD`] nothing is compared that depends on it.
const YOUNG: Duration = Duration::from_millis(4700);

/// Least and most age of one member's connection to each machine.
type Ages = Vec<Option<[Duration; 2]>>;

impl Walk {
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

    pub(super) async fn call(&mut self, op: Op) -> Result<()> {
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
}
