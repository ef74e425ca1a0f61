//! Arguments that users may not set, because they would break membership or the node's identity.

use k8s_openapi::api::core::v1::EnvVar;

use crate::crd::Arg;

/// Whose arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgOwner {
    /// `etcd.extraArgs`, `etcd.extraEnvs`.
    Etcd,
    /// `kubelet.extraArgs`, `machines[].kubeletExtraArgs`.
    Kubelet,
}

/// An argument that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForbiddenArg {
    pub owner: ArgOwner,
    /// Name of the flag without dashes.
    pub name: &'static str,
    /// A boolean that may be given as long as it keeps this value.
    pub harmless: Option<bool>,
    /// What it would break, and what to set instead. Continues "must not be set: ".
    pub why: &'static str,
}

const MEMBERSHIP: &str =
    "Seedbed writes it from the ledger of etcd members; change spec.machines instead";
const DISCOVERY: &str = "Seedbed names the founding members itself; remove it";

const fn etcd(name: &'static str, why: &'static str) -> ForbiddenArg {
    ForbiddenArg {
        owner: ArgOwner::Etcd,
        name,
        harmless: None,
        why,
    }
}

const fn etcd_bool(name: &'static str, harmless: bool, why: &'static str) -> ForbiddenArg {
    ForbiddenArg {
        owner: ArgOwner::Etcd,
        name,
        harmless: Some(harmless),
        why,
    }
}

const FORBIDDEN: &[ForbiddenArg] = &[
    etcd("name", "it is the machine's name; change machines[].name"),
    etcd("initial-cluster", MEMBERSHIP),
    etcd("initial-cluster-state", MEMBERSHIP),
    etcd("initial-cluster-token", MEMBERSHIP),
    etcd("initial-advertise-peer-urls", MEMBERSHIP),
    etcd("discovery", DISCOVERY),
    etcd("discovery-srv", DISCOVERY),
    etcd("discovery-token", DISCOVERY),
    etcd("discovery-endpoints", DISCOVERY),
    etcd(
        "data-dir",
        "only the folder that is mounted survives a restart; set etcd.dataDir",
    ),
    etcd(
        "wal-dir",
        "only etcd.dataDir is mounted and survives a restart; remove it, the log is in there",
    ),
    etcd(
        "config-file",
        "etcd ignores every flag then, those that keep membership safe included; set flags",
    ),
    etcd_bool(
        "strict-reconfig-check",
        true,
        "without the check a membership change can lose quorum; remove it",
    ),
    etcd_bool(
        "unsafe-no-fsync",
        false,
        "a power loss would lose acknowledged writes; remove it",
    ),
    etcd_bool(
        "force-new-cluster",
        false,
        "each restart would drop every other member; remove it",
    ),
    ForbiddenArg {
        owner: ArgOwner::Kubelet,
        name: "hostname-override",
        harmless: None,
        why: "the Node would not match its certificate; set machines[].name and machines[].hostname",
    },
];

/// All arguments that are refused.
pub fn forbidden_args() -> &'static [ForbiddenArg] {
    FORBIDDEN
}

/// Why this argument is refused; `None`: it may be set.
pub fn forbidden_arg(owner: ArgOwner, arg: &Arg) -> Option<&'static ForbiddenArg> {
    // A name that brings its own `=` sets the flag before it.
    let (name, value) = match arg.name.split_once('=') {
        Some((name, rest)) => (name, format!("{rest}={}", arg.value)),
        None => (arg.name.as_str(), arg.value.clone()),
    };
    // The kubelet takes `_` in the name of a flag for `-`.
    let name = name.trim_start_matches('-').replace('_', "-");
    refused(owner, &name, Some(&value))
}

/// Why this environment variable is refused: etcd takes each flag also as `ETCD_<FLAG>`.
pub fn forbidden_env(owner: ArgOwner, env: &EnvVar) -> Option<&'static ForbiddenArg> {
    let flag = match owner {
        ArgOwner::Etcd => env.name.strip_prefix("ETCD_")?,
        ArgOwner::Kubelet => return None,
    };
    let flag = flag.to_ascii_lowercase().replace('_', "-");
    refused(owner, &flag, env.value.as_deref())
}

fn refused(owner: ArgOwner, name: &str, value: Option<&str>) -> Option<&'static ForbiddenArg> {
    FORBIDDEN
        .iter()
        .filter(|entry| entry.owner == owner && entry.name == name)
        .find(|entry| match (entry.harmless, value) {
            (Some(harmless), Some(value)) => parse_go_bool(value) != Some(harmless),
            _ => true,
        })
}

/// Go's `strconv.ParseBool`, which flags use.
fn parse_go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
