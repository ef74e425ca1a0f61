//! What a scenario looks for and waits for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{NAME, POLL, Trial};
use crate::checker::wait_for_list;
use crate::sight::Listed;

impl Trial<'_> {
    /// Names of the machines whose members these are; an alien's peer URL.
    fn places(&self, mut wanted: impl FnMut(&Listed) -> bool) -> BTreeSet<String> {
        let list = self.sight.lock().list.clone();
        let name = |member: &Listed| {
            let address = member.address();
            // The newest machine at this address.
            let mut here = self
                .hosts
                .values()
                .filter(|host| Some(host.address()) == address);
            let on = here.clone().find(|host| host.is_on());
            let host = on.or_else(|| here.next());
            host.map_or_else(|| member.peer_url.clone(), |host| host.name().to_owned())
        };
        list.iter()
            .filter(|member| wanted(member))
            .map(name)
            .collect()
    }

    /// Machines with a voter.
    pub fn voters(&self) -> BTreeSet<String> {
        self.places(|member| !member.learner)
    }

    /// Machines with a learner; the peer URL where there is no machine yet.
    pub fn learners(&self) -> BTreeSet<String> {
        self.places(|member| member.learner)
    }

    /// IDs of all members.
    pub fn ids(&self) -> BTreeSet<u64> {
        self.sight
            .lock()
            .list
            .iter()
            .map(|member| member.id)
            .collect()
    }

    /// ID of the member on a machine.
    pub fn id_of(&self, machine: &str) -> Result<u64> {
        let address = self.host(machine)?.address();
        let seen = self.sight.lock();
        let member = seen
            .list
            .iter()
            .find(|member| member.address() == Some(address));
        Ok(member
            .with_context(|| format!("no member on {machine}"))?
            .id)
    }

    /// The operator has on record that a machine's member is silent.
    pub fn is_silent(&self, machine: &str) -> bool {
        let status = self.journal.latest();
        let mut rows = status["members"].as_array().into_iter().flatten();
        rows.any(|row| row["machine"] == machine && row["silentSince"].is_string())
    }

    /// The machine whose member leads.
    pub fn leader(&self) -> Result<String> {
        let id = self.sight.lock().leader().map(|member| member.id);
        let found = self.places(|member| Some(member.id) == id);
        found.into_iter().next().context("no leader")
    }

    /// A machine of these whose member does not lead.
    pub fn follower(&self) -> Result<String> {
        let leader = self.leader()?;
        let voters = self.voters();
        voters
            .into_iter()
            .find(|name| *name != leader)
            .context("no follower")
    }

    /// Exactly these machines have voters, nobody is a learner, and each answers.
    fn all_well(&self, machines: &BTreeSet<String>) -> bool {
        let answer = machines.iter().all(|machine| {
            let Some(host) = self.hosts.get(machine) else {
                return false;
            };
            let seen = self.sight.lock();
            seen.said
                .get(&host.address())
                .is_some_and(|said| said.list.is_some())
        });
        answer && self.voters() == *machines && self.learners().is_empty()
    }

    /// Waits until exactly these machines have healthy voters, for the client and for the operator.
    pub async fn settled<S: AsRef<str>>(&self, machines: &[S], seconds: u64) -> Result<Duration> {
        let wanted: BTreeSet<String> = machines
            .iter()
            .map(|name| name.as_ref().to_owned())
            .collect();
        let what = format!("voters on {wanted:?}");
        self.until(&what, seconds, || {
            self.all_well(&wanted)
                && self
                    .journal
                    .condition("EtcdHealthy")
                    .is_some_and(|(status, _)| status == "True")
                && self.journal.latest()["pendingOperation"].is_null()
        })
        .await
    }

    /// Waits until something is seen; returns how long that took.
    pub async fn until(
        &self,
        what: &str,
        seconds: u64,
        mut seen: impl FnMut() -> bool,
    ) -> Result<Duration> {
        let began = Instant::now();
        while !seen() {
            self.no_violation()?;
            if began.elapsed() > Duration::from_secs(seconds) {
                bail!(
                    "waited {seconds} s for {what}; voters {:?}, learners {:?}",
                    self.voters(),
                    self.learners()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(began.elapsed())
    }

    /// Something holds for so long.
    pub async fn stays(
        &self,
        what: &str,
        seconds: u64,
        mut holds: impl FnMut() -> bool,
    ) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            self.no_violation()?;
            ensure!(holds(), "no longer: {what}, after {:?}", began.elapsed());
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// For so long, the list stays as it is and the operator begins nothing.
    pub async fn untouched(&self, seconds: u64) -> Result<()> {
        let (ids, begun) = (self.ids(), self.journal.operations().len());
        self.stays("nothing is changed", seconds, || {
            self.ids() == ids && self.journal.operations().len() == begun
        })
        .await
    }

    /// Waits until a condition of the EtcdCluster has this status and, unless empty, a message or
    /// reason that contains this text.
    pub async fn says(&self, kind: &str, status: &str, text: &str, seconds: u64) -> Result<String> {
        let found = || {
            let (found, words) = self.journal.condition(kind)?;
            (found == status && words.contains(text)).then_some(words)
        };
        self.until(&format!("{kind}={status} {text}"), seconds, || {
            found().is_some()
        })
        .await
        .with_context(|| format!("{:#}", self.journal.latest()["conditions"]))?;
        found().context("no longer")
    }

    pub(super) fn no_violation(&self) -> Result<()> {
        let seen = self.sight.lock();
        ensure!(seen.violations.is_empty(), "{}", seen.violations.join("; "));
        Ok(())
    }

    /// etcd refuses changes of membership until all members are connected for 5 s.
    pub async fn connected(&self) {
        tokio::time::sleep(Duration::from_secs(8)).await;
    }

    /// Waits until one of these machines' members lists the members like that.
    pub fn list_becomes(
        &self,
        machines: &[&str],
        seconds: u64,
        seen: impl Fn(&[Listed]) -> bool + Send,
    ) -> Result<()> {
        let at = machines
            .iter()
            .map(|machine| Ok(self.host(machine)?.address()))
            .collect::<Result<_>>()?;
        let limit = Duration::from_secs(seconds);
        tokio::task::block_in_place(|| {
            wait_for_list(&self.field.clients, self.credentials()?, &at, limit, seen)
        })
    }

    /// Waits until the config of a founder is that of a member that has started.
    pub async fn guarded(&self, machine: &str) -> Result<()> {
        let keeps = |secret: &Secret| {
            let annotations = secret.annotations();
            annotations.contains_key("seedbed.dev/keeps-data-of")
        };
        self.machine_config(machine, "a config that keeps its data", 60, keeps)
            .await
            .map(drop)
    }

    /// Waits until the machine-config Secret is there and as wanted.
    pub async fn machine_config(
        &self,
        machine: &str,
        what: &str,
        seconds: u64,
        wanted: impl Fn(&Secret) -> bool,
    ) -> Result<Secret> {
        let (name, began) = (format!("{NAME}-{machine}"), Instant::now());
        loop {
            let secret = self.space.api::<Secret>().get_opt(&name).await?;
            if let Some(secret) = secret.filter(&wanted) {
                return Ok(secret);
            }
            ensure!(
                began.elapsed() < Duration::from_secs(seconds),
                "not {what} of {machine} after {seconds} s"
            );
            tokio::time::sleep(POLL).await;
        }
    }
}
