//! Waiting until etcd says what the model says.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use futures::future::join_all;
use seedbed::domain::MemberId;
use seedbed::etcd::EtcdError;
use seedbed::membership::{Answer, ListedMember};

use super::{AGREEMENT, TICK, Walk};
use crate::state::Machine;

impl Walk {
    /// Who can be asked, `but` one.
    pub(super) fn open(&self, but: u8) -> Vec<u8> {
        let open = |(machine, row): (u8, &Machine)| {
            let open = row.linked() && self.serves[usize::from(machine)];
            (open && machine != but).then_some(machine)
        };
        self.model.all().filter_map(open).collect()
    }

    /// Whom everybody but one counts as connected, by its own metrics.
    pub(super) async fn peers(&self, but: u8) -> Vec<(u8, Result<BTreeSet<MemberId>>)> {
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

    /// Waits until everybody says what the model says.
    pub(super) async fn settle(&mut self) -> Result<()> {
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
