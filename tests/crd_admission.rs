//! What the real kube-apiserver accepts and refuses, and what kubectl shows. One API server for all.
#![allow(
    clippy::disallowed_methods,
    reason = "tests of a real API server wait for it"
)]

#[path = "crd_admission/cases.rs"]
mod cases;
#[path = "testbed/mod.rs"]
mod testbed;

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use cases::{CASES, Case};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use kube::runtime::{conditions, wait::await_condition};
use kube::{Client, ResourceExt};
use seedbed::controllers::control_plane::resolve::{Inputs, resolve};
use seedbed::crd::all_crds;
use serde_json::{Value, json};
use testbed::seed::Options;
use testbed::{Seed, StateDir};

const NAMESPACE: &str = "default";

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_the_crds_and_keeps_their_rules() -> Result<()> {
    let state = StateDir::for_test("crd-admission")?;
    let options = Options {
        controller_manager: false,
        ..Options::default()
    };
    let seed = Seed::start(&state, options).await?;
    let client = seed.client().await?;
    install_with_client_side_apply(&seed, &client).await?;

    let mut failures = Vec::new();
    store_bases(&client).await?;
    for case in CASES {
        if let Err(error) = run(&client, case).await {
            failures.push(format!(
                "{} {} {}: {error:#}",
                case.kind, case.door, case.what
            ));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    kubectl_shows_columns(&seed, &client).await?;
    kubectl_refuses_before_anything_is_stored(&seed)?;
    examples_are_accepted(&seed)?;
    Ok(())
}

/// As people install them: `kubectl apply` without `--server-side`, twice.
async fn install_with_client_side_apply(seed: &Seed, client: &Client) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/crd");
    for _ in 0..2 {
        kubectl(seed, &["apply", "-f", &folder.to_string_lossy()], None)?;
    }
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in all_crds() {
        let established = conditions::is_crd_established();
        await_condition(crds.clone(), &crd.name_any(), established).await?;
        let stored = crds.get(&crd.name_any()).await?;
        let found = stored.status.and_then(|status| status.conditions);
        let complaints: Vec<String> = found
            .into_iter()
            .flatten()
            .filter(|c| c.type_ == "NonStructuralSchema" || c.status == "False")
            .map(|c| format!("{} {}: {:?}", crd.name_any(), c.type_, c.message))
            .collect();
        ensure!(complaints.is_empty(), "{complaints:?}");
    }
    Ok(())
}

fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    let kind = match kind {
        "cp" => "ControlPlane",
        "etcdc" => "EtcdCluster",
        _ => "NodePool",
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("seedbed.dev", "v1alpha1", kind));
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

/// The objects that are changed: `bare`, with the defaults left out, and `full`, with one-way fields
/// written out.
async fn store_bases(client: &Client) -> Result<()> {
    for kind in ["cp", "etcdc", "np"] {
        for name in ["bare", "full"] {
            let object = parse(cases::base(kind, name))?;
            api(client, kind)
                .create(&PostParams::default(), &object)
                .await
                .with_context(|| format!("the base {kind} {name}"))?;
        }
    }
    Ok(())
}

fn parse(value: Value) -> Result<DynamicObject> {
    Ok(serde_json::from_value(value)?)
}

/// Puts each value at its dotted path; `null` takes a field away.
fn changed(mut object: Value, changes: &str) -> Result<Value> {
    let changes: serde_json::Map<String, Value> = serde_json::from_str(changes)?;
    for (path, value) in changes {
        let mut place = &mut object;
        let (parents, last) = path.rsplit_once('.').context("a path has two parts")?;
        for part in parents.split('.') {
            place = match part.parse::<usize>() {
                Ok(index) => &mut place[index],
                Err(_) => &mut place[part],
            };
        }
        match (value, last.parse::<usize>()) {
            (Value::Null, _) => {
                let fields = place.as_object_mut().context("a field of an object")?;
                ensure!(fields.remove(last).is_some(), "{path} was not there");
            }
            (value, Ok(index)) => place[index] = value,
            (value, Err(_)) => place[last] = value,
        }
    }
    Ok(object)
}

async fn run(client: &Client, case: &Case) -> Result<()> {
    let api = api(client, case.kind);
    let answer = match case.door {
        "create" => {
            let base = changed(cases::base(case.kind, "new"), case.changes)?;
            let dry = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            api.create(&dry, &parse(base)?).await.map(drop)
        }
        "apply" => {
            let base = changed(cases::base(case.kind, "new"), case.changes)?;
            let params = PatchParams::apply("admission-test").dry_run();
            api.patch("new", &params, &Patch::Apply(&base))
                .await
                .map(drop)
        }
        "scale" => {
            let replicas: Value = serde_json::from_str(case.changes)?;
            let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
            let params = PatchParams::default().dry_run();
            api.patch_scale("full", &params, &patch).await.map(drop)
        }
        name @ ("bare" | "full") => {
            let base = changed(cases::base(case.kind, name), case.changes)?;
            let mut object = parse(base)?;
            object.metadata.resource_version = api.get(name).await?.metadata.resource_version;
            let dry = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            api.replace(name, &dry, &object).await.map(drop)
        }
        door => bail!("there is no door {door}"),
    };
    judge(case, answer)
}

fn judge(case: &Case, answer: kube::Result<()>) -> Result<()> {
    match answer {
        Ok(()) => ensure!(
            case.words.is_empty(),
            "is accepted; {:?} was awaited",
            case.words
        ),
        Err(kube::Error::Api(status)) if status.code == 422 => {
            ensure!(!case.words.is_empty(), "is refused: {}", status.message);
            for words in case.words.split(" & ") {
                ensure!(
                    status.message.contains(words),
                    "the refusal lacks {words:?}: {}",
                    status.message
                );
            }
            ensure!(
                !status.message.contains("evaluation error") && !status.message.contains("no such"),
                "a rule fails instead of judging: {}",
                status.message
            );
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Runs kubectl; its output, or an error with what it says.
fn kubectl(seed: &Seed, arguments: &[&str], input: Option<&str>) -> Result<String> {
    let mut child = seed
        .kubectl()?
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin.write_all(input.unwrap_or_default().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "kubectl {arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// kubectl's strict decoding catches misspelt fields; even replicas come back with the rule's words.
fn kubectl_refuses_before_anything_is_stored(seed: &Seed) -> Result<()> {
    for (changes, words) in [
        (
            r#"{"spec.replicass": 3}"#,
            "unknown field \"spec.replicass\"",
        ),
        (r#"{"spec.replicas": 2}"#, "replicas must be 1, 3, 5 or 7"),
        (
            r#"{"spec.apiServer.extraEnvs": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}"#,
            "valueFrom",
        ),
    ] {
        let object = changed(cases::base("cp", "new"), changes)?.to_string();
        let Err(error) = kubectl(seed, &["apply", "-f", "-"], Some(&object)) else {
            bail!("{changes} is accepted");
        };
        let said = format!("{error:#}");
        ensure!(said.contains(words), "{said} lacks {words:?}");
    }
    let Err(error) = kubectl(seed, &["scale", "cp/full", "--replicas=4"], None) else {
        bail!("an even scale is accepted");
    };
    let said = format!("{error:#}");
    ensure!(said.contains("replicas must be 1, 3, 5 or 7"), "{said}");
    Ok(())
}

async fn kubectl_shows_columns(seed: &Seed, client: &Client) -> Result<()> {
    for (kind, status) in cases::statuses() {
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams::default();
        api(client, kind)
            .patch_status("full", &params, &patch)
            .await?;
    }
    let mut shown = String::new();
    for arguments in [
        &["get", "cp"][..],
        &["get", "cp", "-o", "wide"],
        &["get", "etcdc"],
        &["get", "etcdc", "-o", "wide"],
        &["get", "np"],
        &["get", "np", "-o", "wide"],
        &["get", "seedbed", "-o", "name"],
    ] {
        let text = kubectl(seed, arguments, None)?;
        if !arguments.contains(&"-o") {
            let widest = text.lines().map(str::len).max().unwrap_or_default();
            ensure!(widest <= 100, "{widest} columns are too wide:\n{text}");
        }
        shown += &format!(
            "$ kubectl {}\n{}\n",
            arguments.join(" "),
            without_age(&text)
        );
    }
    golden("tests/golden/kubectl/get.txt", &shown)
}

/// The table with its AGE column, which depends on the clock, as `-`.
fn without_age(table: &str) -> String {
    let header = table.lines().next().unwrap_or_default();
    let Some(start) = header.find("AGE") else {
        return table.to_owned();
    };
    let rest = header[start..].trim_start_matches("AGE").trim_start();
    let end = header.len() - rest.len();
    let line = |line: &str| {
        let before = line.get(..start).unwrap_or(line);
        let after = line.get(end..).unwrap_or_default();
        let age = if line == header { "AGE" } else { "-" };
        format!("{before}{age:<6}{after}").trim_end().to_owned() + "\n"
    };
    table.lines().map(line).collect()
}

fn golden(path: &str, text: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().context("has a folder")?)?;
        std::fs::write(&path, text)?;
        return Ok(());
    }
    let stored = std::fs::read_to_string(&path)
        .with_context(|| format!("{}; run with UPDATE=1", path.display()))?;
    ensure!(
        stored == text,
        "kubectl shows\n{text}\ninstead of\n{stored}\nUPDATE=1 rewrites it"
    );
    Ok(())
}

fn examples_are_accepted(seed: &Seed) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    // Where the examples put their objects, if not into the current namespace.
    kubectl(seed, &["create", "namespace", "clusters"], None)?;
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            kubectl(seed, &["apply", "-f", &path.to_string_lossy()], None)?;
            count += 1;
        }
    }
    ensure!(count >= 3, "only {count} examples");
    Ok(())
}

/// Objects may be older than a rule: `resolve` refuses whatever the schema refuses in a new object.
/// What does not even fit the types never reaches it.
#[test]
fn resolve_refuses_what_the_api_server_refuses() -> Result<()> {
    let mut checked = 0;
    let mut taken = Vec::new();
    for case in CASES {
        if (case.kind, case.door, case.words.is_empty()) != ("cp", "create", false) {
            continue;
        }
        let object = changed(cases::base("cp", "new"), case.changes)?;
        let Ok(object) = serde_json::from_value(object) else {
            continue;
        };
        checked += 1;
        if resolve(&object, &Inputs::default()).is_ok() {
            taken.push(case.what);
        }
    }
    ensure!(taken.is_empty(), "resolve takes {taken:?}");
    ensure!(checked > 60, "only {checked} cases were checked");
    Ok(())
}
