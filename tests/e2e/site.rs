//! The stage that all tests share, and what a failed one tells.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::audit::Audit;
use crate::cluster::Cluster;
use crate::testbed::loadbalancer::LoadBalancer;
use crate::testbed::machine::Machine;
use crate::testbed::progress::{self, say};
use crate::testbed::stage::{NAMESPACE, Stage, wait};
use crate::testbed::{StateDir, process};

/// Longest wait for anything in the seed alone.
pub const SEED_LIMIT: Duration = Duration::from_secs(120);
/// Longest wait for anything that machines do.
pub const MACHINES_LIMIT: Duration = Duration::from_secs(600);

const ENDPOINT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
/// The user of the operator in targets (`pki::inventory::operator_client`).
pub const TARGET_USER: &str = "seedbed-operator";
/// Where the API servers of targets write down what the operator asks them, on the machine.
pub const TARGET_AUDIT: &str = "/var/log/kubernetes/audit.jsonl";

/// Stage, machines and load balancer.
pub struct Site {
    pub stage: Stage,
    pub audit: Audit,
    machines: Mutex<BTreeMap<String, Arc<Machine>>>,
    _load_balancer: LoadBalancer,
}

/// Machines behind the load balancer.
const MACHINES: u8 = 6;

/// Name and address of a machine of the site; the first three are those of the example.
pub fn machine(number: u8) -> (String, Ipv4Addr) {
    let address = Ipv4Addr::new(198, 18, 0, 10 + number);
    (format!("cp-{number}"), address)
}

static SHARED: Mutex<Weak<Site>> = Mutex::new(Weak::new());
static TURN: Mutex<()> = Mutex::new(());

/// Runs a test on the shared site, with nothing there from tests before. A failure carries what
/// the operator, the seed and the machines say.
pub fn run(test: impl FnOnce(&Site) -> Result<()>) {
    let site = {
        let mut shared = lock(&SHARED);
        shared.upgrade().unwrap_or_else(|| {
            let site = Arc::new(Site::start().expect("a stage"));
            *shared = Arc::downgrade(&site);
            site
        })
    };
    // The site is held before the turn comes, so that it lives until the last test has ended.
    let _turn = lock(&TURN);
    if let Err(error) = site.clear().and_then(|()| test(&site)) {
        panic!("{error:#}\n{}", site.report());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    fn start() -> Result<Self> {
        let state = StateDir::for_test("e2e")?;
        let stage = Stage::start_audited(&state)?;
        // Those that no test boots are as good as down.
        let machines: Vec<_> = (1..=MACHINES).map(machine).collect();
        let load_balancer = stage.load_balancer(ENDPOINT, &machines)?;
        Ok(Self {
            audit: Audit::new(&stage.seed.audit_log()),
            stage,
            machines: Mutex::default(),
            _load_balancer: load_balancer,
        })
    }

    /// Nothing of an earlier bring-up is left: no ControlPlane, no machine that is on.
    pub fn clear(&self) -> Result<()> {
        // No operator runs now that could let them go.
        let pools = ["-n", NAMESPACE, "get", "nodepools", "-o", "name"];
        for pool in self.stage.kubectl(&pools)?.lines() {
            let free = r#"{"metadata": {"finalizers": null}}"#;
            self.stage
                .kubectl(&["-n", NAMESPACE, "patch", pool, "--type=merge", "-p", free])?;
            self.stage.kubectl(&["-n", NAMESPACE, "delete", pool])?;
        }
        let all = "controlplanes,etcdclusters";
        self.stage
            .kubectl(&["-n", NAMESPACE, "delete", all, "--all"])?;
        wait(SEED_LIMIT, || {
            let kinds = "controlplanes,etcdclusters,secrets,configmaps";
            for label in ["seedbed.dev/control-plane", "seedbed.dev/etcd-cluster"] {
                let label = format!("--selector={label}");
                let left = ["-n", NAMESPACE, "get", kinds, &label, "-o", "name"];
                let left = self.stage.kubectl(&left)?;
                ensure!(left.trim().is_empty(), "left of an earlier test: {left}");
            }
            Ok(())
        })?;
        lock(&self.machines)
            .values()
            .try_for_each(|machine| machine.power_off())
    }

    /// Applies a ControlPlane of three machines, as `kubectl apply` does, and returns at once.
    pub fn apply(&self, name: &str) -> Result<Cluster<'_>> {
        self.apply_with(name, |_| ())
    }

    /// The same with changes to the manifest.
    pub fn apply_with(&self, name: &str, change: impl FnOnce(&mut Value)) -> Result<Cluster<'_>> {
        let mut object = manifest(name)?;
        change(&mut object);
        self.apply_object(&object)?;
        Ok(Cluster::new(self, name))
    }

    /// Applies any object, as `kubectl apply` does.
    pub fn apply_object(&self, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().context("no name")?;
        let file = self.stage.state.join(format!("{name}.json"));
        std::fs::write(&file, object.to_string())?;
        let file = file.to_str().context("the path is not UTF-8")?;
        self.stage.kubectl(&["apply", "-f", file]).map(drop)
    }

    /// The machine with a fresh disk and the user data of its Secret. It is off.
    pub fn provision(&self, cluster: &str, name: &str, address: Ipv4Addr) -> Result<Arc<Machine>> {
        let mut machines = lock(&self.machines);
        if let Some(machine) = machines.get(name) {
            machine.reimage(&self.stage.user_data(cluster, name)?)?;
            return Ok(Arc::clone(machine));
        }
        let machine = Arc::new(self.stage.machine(cluster, name, address)?);
        machines.insert(name.to_owned(), Arc::clone(&machine));
        Ok(machine)
    }

    /// A machine with any user data, which is switched off with the others. It is off.
    pub fn machine_from(
        &self,
        name: &str,
        address: Ipv4Addr,
        user_data: &[u8],
    ) -> Result<Arc<Machine>> {
        let machine = Arc::new(self.stage.machine_from(name, address, user_data)?);
        lock(&self.machines).insert(name.to_owned(), Arc::clone(&machine));
        Ok(machine)
    }

    /// What a person would look at after a failure.
    fn report(&self) -> String {
        let mut text = String::new();
        let mut add = |title: &str, part: &str| text.push_str(&format!("--- {title}\n{part}\n"));
        for kind in ["controlplanes", "etcdclusters", "nodepools"] {
            let get = [
                "-n",
                NAMESPACE,
                "get",
                kind,
                "-o",
                "jsonpath={.items[*].status}",
            ];
            let found = self.stage.kubectl(&get);
            add(kind, &found.unwrap_or_else(|error| format!("{error:#}")));
        }
        for process in process::recorded(&self.stage.state).unwrap_or_default() {
            if process.name.starts_with("seedbed-") {
                let log = self.stage.state.log(&process.name);
                add(&process.name, &progress::tail(&log, progress::TAIL_LINES));
            }
        }
        for (name, machine) in &*lock(&self.machines) {
            let on = if machine.is_on() { "on" } else { "off" };
            add(
                &format!("console of {name}, which is {on}"),
                &machine.console_tail(),
            );
            for unit in ["cloud-final", "kubelet"] {
                add(&format!("{unit} of {name}"), &machine.journal_tail(unit));
            }
        }
        add("seed", &self.stage.seed.log_tails());
        text
    }
}

/// `examples/ha.yaml` under another name. Its API servers also write down what the operator
/// changes in them.
fn manifest(name: &str) -> Result<Value> {
    const POLICY: &str = "/etc/kubernetes/audit-policy.json";
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ha.yaml");
    let text = std::fs::read_to_string(&example)?;
    let mut object: Value = serde_saphyr::from_str(&text)?;
    object["metadata"]["name"] = json!(name);
    object["metadata"]["namespace"] = json!(NAMESPACE);
    let arg = |name: &str, value: &str| json!({"name": name, "value": value});
    object["spec"]["apiServer"] = json!({
        "extraArgs": [arg("audit-policy-file", POLICY), arg("audit-log-path", TARGET_AUDIT)],
        "extraVolumes": [
            {"name": "audit-policy", "hostPath": POLICY, "mountPath": POLICY, "readOnly": true},
            {
                "name": "audit-log",
                "hostPath": "/var/log/kubernetes",
                "mountPath": "/var/log/kubernetes",
                "pathType": "DirectoryOrCreate",
            },
        ],
    });
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": [TARGET_USER]}, {"level": "None"}],
    });
    object["spec"]["machineConfig"]["files"]
        .as_array_mut()
        .context("no files")?
        .push(json!({"path": POLICY, "content": policy.to_string()}));
    Ok(object)
}

/// Says what goes on, with the test's name in front.
pub fn tell(test: &str, line: &str) {
    say(&format!("e2e {test}: {line}"));
}

/// Waits as [`wait`] does. Says every half minute what for, and so does the error.
pub fn until<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    const PAUSE: Duration = Duration::from_secs(30);
    let mut told = Instant::now();
    let waited = wait(limit, || {
        let answer = attempt();
        if let Err(error) = &answer
            && told.elapsed() > PAUSE
        {
            told = Instant::now();
            let text = format!("{error:#}");
            let line: String = text
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(200)
                .collect();
            say(&format!("e2e: still waiting for {what}: {line}"));
        }
        answer
    });
    waited.with_context(|| format!("waiting for {what}"))
}

/// Whether there is time for everything (`make soak`).
pub fn soak() -> bool {
    std::env::var_os("SEEDBED_SOAK").is_some_and(|value| value == "1")
}
