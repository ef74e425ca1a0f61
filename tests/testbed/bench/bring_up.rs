//! From machines to a live control plane, against the real kubeadm on the same machines.
//!
//! Both sides start from machines that have booted with nothing to do and have every image; both
//! bring kube-proxy and CoreDNS, use ECDSA P-256 and have the same load balancer in front. Of
//! kubeadm only `init` and the two `join`s are counted, one after another as its documentation
//! has it, not the waiting afterwards; of Seedbed everything from handing over the user data
//! until three API servers are ready, three members vote and three Nodes are registered.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::loadbalancer::LoadBalancer;
use super::super::machine::{Machine, kubeadm};
use super::super::progress::say;
use super::super::stage::{Inventory, NAMESPACE, Stage, wait};
use super::super::{build, netns};
use super::operator::Operator;
use super::report::{Report, median, seconds};
use super::target::{self, Milestones};
use super::{idle, objects, seed};

const GOAL: f64 = 3.0;
const BOOT_LIMIT: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(600);
/// What a machine is told that has nothing to do.
const BLANK: &[u8] = b"#cloud-config\n{}\n";
const ENDPOINT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);

/// The figures of one round.
struct Round {
    kubeadm: kubeadm::Elapsed,
    booted: Milestones,
    /// Until `Ready`: kubeadm's objects are in place, too.
    booted_ready: Duration,
    cold: Milestones,
    /// From `kubectl apply` to power-on.
    cold_published: Duration,
}

/// Compares in `rounds` rounds, then watches the last control plane while it idles.
pub fn measure(stage: &Stage, rounds: u32, watched: Duration, report: &mut Report) -> Result<()> {
    let operator = Operator::start(stage)?;
    let ground = Ground::prepare(stage)?;
    let mut done = Vec::new();
    for number in 1..=rounds {
        say(&format!("round {number} of {rounds}"));
        // In turn, so that neither side always finds the warmer caches.
        let kubeadm_first = number % 2 == 1;
        let kubeadm = kubeadm_first.then(|| ground.kubeadm()).transpose()?;
        let (booted, booted_ready) = ground.booted(&format!("booted-{number}"))?;
        let kubeadm = kubeadm.map_or_else(|| ground.kubeadm(), Ok)?;
        let (cold, cold_published) = ground.cold(&format!("cold-{number}"), number == rounds)?;
        let round = Round {
            kubeadm,
            booted,
            booted_ready,
            cold,
            cold_published,
        };
        say(&round.describe());
        done.push(round);
    }
    tell(&done, report)?;
    seed::with_client(stage, |client| async move {
        let what = "one live control plane of three machines";
        idle::watch(&client, &operator, what, watched, report).await
    })
}

impl Round {
    fn kubeadm_commands(&self) -> Duration {
        self.kubeadm.init + self.kubeadm.joins.iter().sum::<Duration>()
    }

    fn ratio(&self) -> Option<f64> {
        Some(self.kubeadm_commands().as_secs_f64() / self.booted.complete()?.as_secs_f64())
    }

    fn describe(&self) -> String {
        format!(
            "kubeadm: init {}, joins {}, with the wait afterwards {}; Seedbed from booted \
             machines: {}, Ready after {}; from kubectl apply: published after {}, {}",
            seconds(self.kubeadm.init),
            self.kubeadm
                .joins
                .iter()
                .map(|d| seconds(*d))
                .collect::<Vec<_>>()
                .join(" and "),
            seconds(self.kubeadm.total),
            shown(&self.booted),
            seconds(self.booted_ready),
            seconds(self.cold_published),
            shown(&self.cold),
        )
    }
}

fn shown(milestones: &Milestones) -> String {
    let at = |time: Option<Duration>| time.map_or("never".to_owned(), seconds);
    format!(
        "first API server {}, all {}, voters {}, Nodes {}",
        at(milestones.first_api_server),
        at(milestones.api_servers),
        at(milestones.voters),
        at(milestones.nodes)
    )
}

fn tell(rounds: &[Round], report: &mut Report) -> Result<()> {
    let middle = |of: &dyn Fn(&Round) -> Option<Duration>| -> Result<Duration> {
        let times: Vec<Duration> = rounds.iter().filter_map(of).collect();
        median(&times).context("no rounds")
    };
    let ratios: Vec<f64> = rounds.iter().filter_map(Round::ratio).collect();
    let ratio = median(&ratios).context("no rounds")?;
    let all = ratios
        .iter()
        .map(|ratio| format!("{ratio:.1}"))
        .collect::<Vec<_>>();
    let kubeadm = middle(&|round| Some(round.kubeadm_commands()))?;
    let booted = middle(&|round| round.booted.complete())?;
    report.goal(
        "booted machines to a control plane of three: kubeadm's time divided by Seedbed's",
        format!("≥ {GOAL:.0}"),
        format!(
            "{ratio:.1} (rounds: {}; medians: kubeadm {}, Seedbed {})",
            all.join(", "),
            seconds(kubeadm),
            seconds(booted)
        ),
        ratio >= GOAL,
    );
    let ready = middle(&|round| Some(round.booted_ready))?;
    report.figure("the same, until Ready is true", seconds(ready));
    let cold = middle(&|round| round.cold.complete())?;
    report.figure(
        "kubectl apply to a control plane of three, machines off before",
        seconds(cold),
    );
    let power_on =
        middle(&|round| Some(round.cold.complete()?.saturating_sub(round.cold_published)))?;
    report.figure("of that, from power-on", seconds(power_on));
    Ok(())
}

/// Three machines and their load balancer.
struct Ground<'a> {
    stage: &'a Stage,
    machines: Vec<Machine>,
    _load_balancer: LoadBalancer,
}

impl<'a> Ground<'a> {
    fn prepare(stage: &'a Stage) -> Result<Self> {
        let example = objects::with_machines("any")?;
        let inventory: Inventory = example["spec"]["machines"]
            .as_array()
            .context("no machines")?
            .iter()
            .map(|machine| {
                let field = |name: &str| machine[name].as_str().context("a machine lacks a field");
                Ok((field("name")?.to_owned(), field("address")?.parse()?))
            })
            .collect::<Result<_>>()?;
        let load_balancer = stage.load_balancer(ENDPOINT, &inventory)?;
        let machines = inventory
            .iter()
            .map(|(name, address)| stage.machine_from(name, *address, BLANK))
            .collect::<Result<_>>()?;
        Ok(Self {
            stage,
            machines,
            _load_balancer: load_balancer,
        })
    }

    /// Boots all machines from empty disks, with nothing to do.
    fn boot_blank(&self) -> Result<()> {
        for machine in &self.machines {
            machine.reimage(BLANK)?;
        }
        self.machines.iter().try_for_each(Machine::boot)?;
        self.machines
            .iter()
            .try_for_each(|machine| machine.wait_booted(BOOT_LIMIT))
    }

    fn kubeadm(&self) -> Result<kubeadm::Elapsed> {
        self.boot_blank()?;
        let network = objects::with_machines("any")?["spec"]["network"].take();
        let range = |field: &str| -> Result<String> {
            Ok(network[field][0].as_str().context("no range")?.to_owned())
        };
        kubeadm::bring_up(
            &self.machines,
            &kubeadm::Options {
                version: "v1.37.1".to_owned(),
                endpoint: format!("{ENDPOINT}:6443"),
                pod_cidr: range("podCIDRs")?,
                service_cidr: range("serviceCIDRs")?,
                skip_addons: false,
                etcdctl: build::program(build::Component::Etcd, "etcdctl")?,
            },
        )
    }

    /// From booted machines; also answers when the ControlPlane was Ready.
    fn booted(&self, name: &str) -> Result<(Milestones, Duration)> {
        self.apply(&objects::with_machines(name)?)?;
        self.stage
            .wait_for_condition(name, "MachineConfigsPublished", LIMIT)?;
        let user_data = self.user_data(name)?;
        self.boot_blank()?;
        let began = Instant::now();
        let milestones = std::thread::scope(|scope| -> Result<Milestones> {
            let provisioning: Vec<_> = self
                .machines
                .iter()
                .zip(&user_data)
                .map(|(machine, user_data)| scope.spawn(|| machine.provision(user_data)))
                .collect();
            let milestones = self.complete(name, began)?;
            for ended in provisioning {
                ended
                    .join()
                    .map_err(|_| anyhow::anyhow!("provisioning panicked"))??;
            }
            Ok(milestones)
        })?;
        self.stage.wait_for_condition(name, "Ready", LIMIT)?;
        let ready = began.elapsed();
        self.remove(name)?;
        Ok((milestones, ready))
    }

    /// From `kubectl apply`, with machines that are off; also answers when they were switched on.
    fn cold(&self, name: &str, keep: bool) -> Result<(Milestones, Duration)> {
        for machine in &self.machines {
            machine.power_off()?;
        }
        let object = objects::with_machines(name)?;
        let began = Instant::now();
        self.apply(&object)?;
        let user_data = wait(LIMIT, || self.user_data(name))?;
        for (machine, user_data) in self.machines.iter().zip(&user_data) {
            machine.reimage(user_data)?;
        }
        let published = began.elapsed();
        self.machines.iter().try_for_each(Machine::boot)?;
        let milestones = self.complete(name, began)?;
        self.machines
            .iter()
            .try_for_each(|machine| machine.wait_booted(BOOT_LIMIT))?;
        self.stage.wait_for_condition(name, "Ready", LIMIT)?;
        if !keep {
            self.remove(name)?;
        }
        Ok((milestones, published))
    }

    fn complete(&self, name: &str, began: Instant) -> Result<Milestones> {
        let kubeconfig = std::fs::read_to_string(self.stage.target_kubeconfig(name)?)?;
        netns::inside_or_here(self.stage.seed.netns(), || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(target::complete(&self.machines, &kubeconfig, began, LIMIT))
        })
    }

    fn user_data(&self, name: &str) -> Result<Vec<Vec<u8>>> {
        let of = |machine: &Machine| self.stage.user_data(name, machine.name());
        self.machines.iter().map(of).collect()
    }

    fn apply(&self, object: &Value) -> Result<()> {
        let file = self.stage.state.join("bench.json");
        std::fs::write(&file, serde_json::to_vec(object)?)?;
        self.stage
            .kubectl(&[
                "apply",
                "-f",
                file.to_str().context("the path is not UTF-8")?,
            ])
            .map(drop)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.stage
            .kubectl(&["-n", NAMESPACE, "delete", "controlplane", name])
            .map(drop)
    }
}
