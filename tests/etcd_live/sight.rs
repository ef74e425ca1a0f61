//! What is seen of a cluster from a client's place on the network, and the rules that must hold at
//! every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A change of membership has to be followed by an acknowledged write within this time, unless a
/// fault came in between.
const WRITES_AGAIN: Duration = Duration::from_secs(20);
/// Writes count as working before a change when one was acknowledged so recently.
const WRITES_WORK: Duration = Duration::from_secs(3);
/// The longest time with an even number of voters.
const EVEN_LIMIT: Duration = Duration::from_secs(15 * 60);

/// A member as the cluster lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub id: u64,
    pub name: String,
    pub peer_url: String,
    pub learner: bool,
    pub started: bool,
}

impl Listed {
    /// The address in its peer URL.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let host = self.peer_url.split("//").nth(1)?;
        host.split(':').next()?.parse().ok()
    }
}

/// What one member said in one round.
#[derive(Clone, Debug)]
pub struct Said {
    pub cluster_id: u64,
    pub member_id: u64,
    pub leader: u64,
    pub index: u64,
    pub learner: bool,
    /// Its list behind a linearizable read.
    pub list: Option<Vec<Listed>>,
}

/// Shared between the checker and the scenario.
#[derive(Clone)]
pub struct Sight(Arc<Mutex<Seen>>);

/// Everything seen so far.
pub struct Seen {
    began: Instant,
    /// Whom to ask.
    pub endpoints: BTreeSet<Ipv4Addr>,
    /// The newest list that a quorum stands behind.
    pub list: Vec<Listed>,
    list_as_of: Option<Instant>,
    /// Answers of the last round by address.
    pub said: BTreeMap<Ipv4Addr, Said>,
    cluster_ids: BTreeSet<u64>,
    removed: BTreeSet<u64>,
    leader: u64,
    faults: u64,
    watched: Option<(Instant, u64, String)>,
    even_since: Option<Instant>,
    /// Changes of the list, in words.
    pub changes: Vec<String>,
    pub violations: Vec<String>,
    pub timeline: Vec<(Duration, String)>,
    /// Acknowledged writes: number and revision.
    pub acknowledged: BTreeMap<u64, i64>,
    /// When each of them was acknowledged, oldest first.
    acks: Vec<Instant>,
    /// Pause between two writes.
    pub pause: Duration,
    /// Bytes added to each write.
    pub payload: usize,
}

impl Sight {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Seen {
            began: Instant::now(),
            endpoints: BTreeSet::new(),
            list: Vec::new(),
            list_as_of: None,
            said: BTreeMap::new(),
            cluster_ids: BTreeSet::new(),
            removed: BTreeSet::new(),
            leader: 0,
            faults: 0,
            watched: None,
            even_since: None,
            changes: Vec::new(),
            violations: Vec::new(),
            timeline: Vec::new(),
            acknowledged: BTreeMap::new(),
            acks: Vec::new(),
            pause: Duration::from_millis(250),
            payload: 0,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line of the timeline.
    pub fn note(&self, line: impl Into<String>) {
        let mut seen = self.lock();
        seen.note(line.into());
    }

    /// The same for something that the scenario does to the cluster.
    pub fn fault(&self, line: impl Into<String>) {
        let mut seen = self.lock();
        seen.faults += 1;
        seen.note(format!("FAULT {}", line.into()));
    }
}

impl Seen {
    pub fn note(&mut self, line: String) {
        self.timeline.push((self.began.elapsed(), line));
    }

    fn violation(&mut self, line: String) {
        self.note(format!("VIOLATION {line}"));
        self.violations.push(line);
    }

    /// A write was acknowledged.
    pub fn acknowledge(&mut self, number: u64, revision: i64) {
        let now = Instant::now();
        self.acks.push(now);
        self.acknowledged.insert(number, revision);
        if self.watched.as_ref().is_some_and(|(at, ..)| *at < now) {
            self.watched = None;
        }
    }

    /// The longest time without an acknowledged write, of those that have a part between two moments.
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let open = self.acks.last().map(|last| [*last, Instant::now()]);
        let pairs = self.acks.windows(2).map(|pair| [pair[0], pair[1]]);
        let gaps = pairs
            .chain(open)
            .filter(|[begin, end]| *end >= from && *begin <= to);
        gaps.map(|[begin, end]| end - begin)
            .max()
            .unwrap_or_default()
    }

    /// The newest revision that was acknowledged.
    pub fn newest(&self) -> i64 {
        self.acknowledged.values().copied().max().unwrap_or(0)
    }

    /// A read or write contradicts what was acknowledged.
    pub fn lost(&mut self, line: String) {
        self.violation(format!("acknowledged data: {line}"));
    }

    /// Takes in one round of answers, asked between `began` and now.
    pub fn take_in(&mut self, began: Instant, said: BTreeMap<Ipv4Addr, Said>) -> bool {
        let ids: Vec<u64> = said.values().map(|answer| answer.cluster_id).collect();
        for id in ids {
            if self.cluster_ids.insert(id) && self.cluster_ids.len() > 1 {
                let text = format!("two cluster IDs: {:x?}", self.cluster_ids);
                self.violation(text);
            }
        }
        let lists: BTreeSet<&Vec<Listed>> = said
            .values()
            .filter_map(|answer| answer.list.as_ref())
            .collect();
        // Lists that differ were read while a change was made: the next round tells.
        if let (1, Some(list)) = (lists.len(), lists.first())
            && self.list_as_of.is_none_or(|as_of| began > as_of)
        {
            self.compare((*list).clone());
            self.list_as_of = Some(Instant::now());
        }
        let leaders: BTreeSet<u64> = said
            .values()
            .filter(|answer| answer.leader == answer.member_id)
            .map(|answer| answer.leader)
            .collect();
        let mut changed = false;
        if let (1, Some(leader)) = (leaders.len(), leaders.first())
            && *leader != self.leader
        {
            changed = self.leader != 0;
            self.leader = *leader;
            self.note(format!("{} leads", self.named(*leader)));
        }
        self.said = said;
        self.watch_over();
        changed
    }

    fn compare(&mut self, list: Vec<Listed>) {
        if list == self.list {
            return;
        }
        let before = std::mem::replace(&mut self.list, list.clone());
        let first = before.is_empty();
        let mut changes = Vec::new();
        let mut membership = false;
        for member in &list {
            let known = before.iter().find(|old| old.id == member.id);
            let name = self.named(member.id);
            match known {
                None if self.removed.contains(&member.id) => {
                    self.violation(format!("{name} is back after its removal"));
                }
                None => {
                    membership = true;
                    let role = if member.learner { "learner" } else { "voter" };
                    changes.push(format!("{name} added as {role}"));
                }
                Some(old) => {
                    if old.learner && !member.learner {
                        membership = true;
                        changes.push(format!("{name} promoted"));
                    }
                    if !old.learner && member.learner {
                        self.violation(format!("{name} was demoted"));
                    }
                    if !old.started && member.started {
                        changes.push(format!("{name} started"));
                    }
                }
            }
        }
        for old in &before {
            if !list.iter().any(|member| member.id == old.id) {
                membership = true;
                self.removed.insert(old.id);
                let name = if old.name.is_empty() {
                    &old.peer_url
                } else {
                    &old.name
                };
                changes.push(format!("{name} ({:x}) removed", old.id));
            }
        }
        let text = changes.join(", ");
        self.note(format!("list: {text}"));
        if first {
            return;
        }
        self.changes.extend(changes);
        if membership
            && self
                .acks
                .last()
                .is_some_and(|at| at.elapsed() < WRITES_WORK)
        {
            self.watched = Some((Instant::now(), self.faults, text));
        }
        let voters = list.iter().filter(|member| !member.learner).count();
        if voters % 2 == 1 {
            self.even_since = None;
        } else if self.even_since.is_none() {
            self.even_since = Some(Instant::now());
        }
    }

    fn watch_over(&mut self) {
        if let Some((at, faults, change)) = self.watched.clone() {
            if faults != self.faults {
                self.watched = None;
            } else if at.elapsed() > WRITES_AGAIN {
                self.watched = None;
                self.violation(format!("no write succeeds after: {change}"));
            }
        }
        if self.even_since.is_some_and(|at| at.elapsed() > EVEN_LIMIT) {
            self.even_since = None;
            self.violation("an even number of voters for more than 15 min".to_owned());
        }
    }

    fn named(&self, id: u64) -> String {
        let member = self.list.iter().find(|member| member.id == id);
        let name = member.map_or("?", |member| {
            if member.name.is_empty() {
                &member.peer_url
            } else {
                &member.name
            }
        });
        format!("{name} ({id:x})")
    }

    /// The member that leads, by its own word.
    pub fn leader(&self) -> Option<&Listed> {
        self.list.iter().find(|member| member.id == self.leader)
    }
}
