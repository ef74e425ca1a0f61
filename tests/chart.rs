//! The chart, by the real helm: what it renders, and what it does in a real API server.

#[path = "testbed/mod.rs"]
mod testbed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use k8s_openapi::api::authorization::v1::{
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectRulesReviewStatus,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client};
use seedbed::runtime::permissions::{PERMISSIONS, Place};
use seedbed::runtime::preflight::{Missing, missing};
use seedbed::runtime::settings::Settings;
use seedbed::runtime::telemetry::LogFormat;
use serde_json::Value;
use testbed::{Component, Seed, StateDir, build, progress, seed, seed_access};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> String {
    root().join("charts/seedbed").display().to_string()
}

/// helm, with its own files in `home` and nothing of the user's.
fn helm(home: &Path, kubeconfig: Option<&Path>, args: &[&str]) -> Result<String> {
    let mut command = Command::new(build::ensure(Component::Helm)?.join("helm"));
    command.args(args);
    for (variable, folder) in [
        ("HELM_CACHE_HOME", "cache"),
        ("HELM_CONFIG_HOME", "config"),
        ("HELM_DATA_HOME", "data"),
    ] {
        command.env(variable, home.join(folder));
    }
    command.env_remove("HELM_NAMESPACE").env(
        "KUBECONFIG",
        kubeconfig.unwrap_or_else(|| Path::new("/nonexistent")),
    );
    progress::output(&mut command)
}

/// The objects of `helm template` in namespace `seedbed-system`.
fn render(extra: &[&str]) -> Result<Vec<Value>> {
    let home = tempfile::tempdir()?;
    let chart = chart();
    let mut args = vec!["template", "sb", &chart, "--namespace", "seedbed-system"];
    args.extend(extra);
    let text = helm(home.path(), None, &args)?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    Ok(objects
        .into_iter()
        .filter(|object| !object.is_null())
        .collect())
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

/// Group, resource with subresource, verb.
type Grant = (String, String, String);

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|one| one.as_str().expect("a string").to_owned())
        .collect()
}

/// Every single grant of a list of RBAC rules.
fn grants(rules: &Value) -> BTreeSet<Grant> {
    let mut grants = BTreeSet::new();
    for rule in rules.as_array().expect("rules") {
        assert_eq!(rule.as_object().expect("a rule").len(), 3, "{rule}");
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                for verb in strings(&rule["verbs"]) {
                    grants.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    grants
}

fn needed(place: Place) -> BTreeSet<Grant> {
    let rows = PERMISSIONS.iter().filter(|row| row.place == place);
    rows.flat_map(|row| {
        let verb = |verb: &&str| (row.group.into(), row.resource.into(), (*verb).into());
        row.verbs.iter().map(verb)
    })
    .collect()
}

#[test]
fn the_crds_are_those_of_config_crd() -> Result<()> {
    let (made, shipped) = (
        root().join("config/crd"),
        root().join("charts/seedbed/files/crds"),
    );
    let files = |folder: &Path| -> Result<BTreeMap<PathBuf, String>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                let name = path.file_name().context("a name")?;
                files.insert(PathBuf::from(name), std::fs::read_to_string(&path)?);
            }
        }
        Ok(files)
    };
    let expected = files(&made)?;
    if std::env::var_os("UPDATE").is_some() {
        for name in files(&shipped)?.keys() {
            std::fs::remove_file(shipped.join(name))?;
        }
        for (name, text) in &expected {
            std::fs::write(shipped.join(name), text)?;
        }
    }
    ensure!(
        expected.len() == 3,
        "config/crd holds {:?}",
        expected.keys()
    );
    let actual = files(&shipped)?;
    ensure!(
        actual == expected,
        "charts/seedbed/files/crds is not a copy of config/crd; run UPDATE=1 cargo test --test \
         chart"
    );

    let objects = render(&[])?;
    let crds = of_kind(&objects, "CustomResourceDefinition");
    ensure!(crds.len() == 3);
    for crd in crds {
        let annotations = &crd["metadata"]["annotations"];
        ensure!(
            annotations["helm.sh/resource-policy"] == "keep",
            "{annotations}"
        );
        let file = format!(
            "seedbed.dev_{}.yaml",
            crd["spec"]["names"]["plural"].as_str().unwrap_or("")
        );
        // Typed, because 7 and 7.0 are the same bound.
        let source: CustomResourceDefinition = serde_saphyr::from_str(&expected[Path::new(&file)])?;
        let crd: CustomResourceDefinition = serde_json::from_value(crd.clone())?;
        ensure!(
            crd.spec == source.spec,
            "{file} changes on its way through helm"
        );
    }
    ensure!(
        of_kind(
            &render(&["--set", "crds.install=false"])?,
            "CustomResourceDefinition"
        )
        .is_empty()
    );
    let removable = render(&["--set", "crds.keep=false"])?;
    for crd in of_kind(&removable, "CustomResourceDefinition") {
        ensure!(crd["metadata"]["annotations"]["helm.sh/resource-policy"].is_null());
    }
    Ok(())
}

#[test]
fn roles_grant_what_the_table_says_and_nothing_is_cluster_scoped() -> Result<()> {
    for (extra, namespaces) in [
        (vec![], vec!["seedbed-system"]),
        (vec!["--set", "watchNamespaces={b,a}"], vec!["a", "b"]),
    ] {
        let objects = render(&extra)?;
        for kind in ["ClusterRole", "ClusterRoleBinding"] {
            ensure!(of_kind(&objects, kind).is_empty(), "{kind}");
        }
        let mut expected: BTreeMap<(&str, &str), _> = namespaces
            .iter()
            .map(|namespace| ((*namespace, "sb"), needed(Place::Watched)))
            .collect();
        expected.insert(("seedbed-system", "sb-lease"), needed(Place::Own));
        let place = |object: &Value| {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
            (text("namespace"), text("name"))
        };
        let roles: BTreeMap<_, _> = of_kind(&objects, "Role")
            .into_iter()
            .map(|role| (place(role), grants(&role["rules"])))
            .collect();
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .map(|((namespace, name), grants)| ((namespace.to_owned(), name.to_owned()), grants))
            .collect();
        ensure!(roles == expected, "{roles:#?}\nis not\n{expected:#?}");
        for binding in of_kind(&objects, "RoleBinding") {
            ensure!(roles.contains_key(&place(binding)));
            ensure!(binding["roleRef"]["name"] == binding["metadata"]["name"]);
            let subject = &binding["subjects"][0];
            ensure!(subject["name"] == "sb" && subject["namespace"] == "seedbed-system");
        }
        ensure!(of_kind(&objects, "RoleBinding").len() == roles.len());
    }
    Ok(())
}

#[derive(Parser)]
struct Operator {
    #[command(flatten)]
    settings: Settings,
}

#[test]
fn the_binary_understands_the_arguments_of_the_deployment() -> Result<()> {
    let objects = render(&[
        "--set",
        "watchNamespaces={b,a},log.format=text,log.filter=info\\,kube=debug",
        "--set",
        "concurrency=3,healthPort=9090",
    ])?;
    let deployment = only(&objects, "Deployment");
    ensure!(deployment["spec"]["replicas"] == 2);
    let pod = &deployment["spec"]["template"]["spec"];
    let args = strings(&pod["containers"][0]["args"]);
    let args = args.iter().map(|arg| arg.replace("$(POD_NAME)", "sb-1"));
    // The first argument is the command `operator`, the name of the program to this parser.
    let Operator { settings } = Operator::try_parse_from(args)?;
    ensure!(settings.namespace == "seedbed-system");
    ensure!(settings.watched() == ["a", "b"]);
    ensure!(settings.replica_name == "sb-1");
    ensure!(settings.lease_name == "sb");
    ensure!(settings.health_address.port() == 9090);
    ensure!(settings.log_format == LogFormat::Text);
    ensure!(settings.log_filter == "info,kube=debug");
    ensure!(settings.concurrency == 3);
    settings.lease_timings()?;
    Ok(())
}

#[test]
fn the_selectors_select_the_pods() -> Result<()> {
    let objects = render(&[])?;
    let deployment = only(&objects, "Deployment");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let spread = &deployment["spec"]["template"]["spec"]["topologySpreadConstraints"][0];
    for selector in [
        &deployment["spec"]["selector"],
        &only(&objects, "PodDisruptionBudget")["spec"]["selector"],
        &spread["labelSelector"],
    ] {
        let wanted = selector["matchLabels"].as_object().context("labels")?;
        ensure!(wanted.len() == 2, "{selector}");
        for (name, value) in wanted {
            ensure!(&labels[name] == value, "{name}");
        }
    }
    Ok(())
}

#[test]
fn values_are_strict() {
    let refused = [
        "replica=2",
        "image.tagg=v1",
        "log.format=xml",
        "replicas=-1",
        "replicas=two",
        "watchNamespaces=a",
        "watchNamespaces={A}",
        "watchNamespaces={a,a}",
        "image.digest=sha256:12",
        "concurrency=0",
        "healthPort=80",
        "crds.keep=maybe",
        "resources.limit.memory=1Gi",
        "serviceAccount.create=true",
    ];
    for values in refused {
        let error = render(&["--set", values]).expect_err(values);
        let error = format!("{error:#}");
        assert!(
            error.contains("don't meet the specifications"),
            "{values}: {error}"
        );
    }
    for values in [
        "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "nodeSelector.role=seed,tolerations[0].operator=Exists",
        "resources.limits.cpu=1",
        "podDisruptionBudget.enabled=false",
    ] {
        render(&["--set", values]).expect(values);
    }
}

#[test]
fn helm_lints_it() -> Result<()> {
    let home = tempfile::tempdir()?;
    let report = helm(home.path(), None, &["lint", "--strict", &chart()])?;
    ensure!(report.contains("0 chart(s) failed"), "{report}");
    Ok(())
}

/// A release in a real API server.
struct Release<'a> {
    seed: &'a Seed,
    home: tempfile::TempDir,
}

impl Release<'_> {
    fn helm(&self, args: &[&str]) -> Result<String> {
        let kubeconfig = self.seed.admin_kubeconfig();
        let mut all = args.to_vec();
        all.extend(["--namespace", "seedbed-system"]);
        helm(self.home.path(), Some(&kubeconfig), &all)
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut command = self.seed.kubectl()?;
        progress::output(command.args(args))
    }

    fn names(&self, kinds: &str) -> Result<BTreeSet<String>> {
        let found = self.kubectl(&["get", kinds, "--all-namespaces", "--output=name"])?;
        Ok(found
            .lines()
            .filter(|name| name.ends_with("/sb") || name.ends_with("/sb-lease"))
            .map(str::to_owned)
            .collect())
    }
}

/// Everything that the client's user may do with resources in a namespace.
async fn allowed(client: &Client, namespace: &str) -> Result<BTreeSet<Grant>> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let api: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    let SubjectRulesReviewStatus {
        incomplete,
        resource_rules,
        ..
    } = answer.status.context("an answer")?;
    ensure!(!incomplete, "the API server does not know all rules");
    let mut grants = BTreeSet::new();
    for rule in resource_rules {
        let groups = rule.api_groups.unwrap_or_default();
        for group in &groups {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    grants.insert((group.clone(), resource.clone(), verb.clone()));
                }
            }
        }
    }
    Ok(grants)
}

/// Clients for two service accounts of the operator's namespace: its own, and one with no Role.
struct Clients {
    operator: Client,
    other: Client,
}

impl Clients {
    async fn new(seed: &Seed) -> Result<Self> {
        let mut clients = Vec::new();
        for name in ["sb", "default"] {
            let kubeconfig = seed.kubeconfig_for_service_account("seedbed-system", name);
            clients.push(seed_access::client(&kubeconfig.await?).await?);
        }
        let [operator, other] = <[Client; 2]>::try_from(clients).map_err(|_| anyhow!("two"))?;
        Ok(Self { operator, other })
    }
}

/// The authorizer sees a changed Role a moment after it is stored.
const LIMIT: Duration = Duration::from_secs(60);

async fn nothing_missing(client: &Client, settings: &Settings) -> Result<()> {
    let start = Instant::now();
    loop {
        let found = missing(client, settings).await?;
        if found.is_empty() {
            return Ok(());
        }
        ensure!(start.elapsed() < LIMIT, "missing: {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the operator may do what is expected beyond any other service account, no more and
/// no less.
async fn allows(clients: &Clients, namespace: &str, expected: &BTreeSet<Grant>) -> Result<()> {
    let start = Instant::now();
    loop {
        let common = allowed(&clients.other, namespace).await?;
        let found = &allowed(&clients.operator, namespace).await? - &common;
        let (lacks, exceeds) = (expected - &found, &found - expected);
        if lacks.is_empty() && exceeds.is_empty() {
            return Ok(());
        }
        ensure!(
            start.elapsed() < LIMIT,
            "in {namespace} it lacks {lacks:?} and may do beyond need {exceeds:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn settings(args: &[&str]) -> Settings {
    let args = ["operator", "--namespace", "seedbed-system"]
        .iter()
        .chain(args);
    Operator::try_parse_from(args).expect("settings").settings
}

/// What is missing before and after, and exactly which rights the release gives.
async fn check_rights(release: &Release<'_>, clients: &Clients) -> Result<()> {
    let client = &clients.operator;
    nothing_missing(client, &settings(&[])).await?;
    let both: BTreeSet<_> = needed(Place::Watched)
        .union(&needed(Place::Own))
        .cloned()
        .collect();
    allows(clients, "seedbed-system", &both).await?;
    allows(clients, "elsewhere", &BTreeSet::new()).await?;
    let wider = missing(client, &settings(&["--watch-namespaces", "elsewhere"])).await?;
    let rows = PERMISSIONS
        .iter()
        .filter(|row| row.place == Place::Watched)
        .count();
    ensure!(wider.len() == rows, "{wider:?}");
    let secrets = PERMISSIONS.iter().find(|row| row.resource == "secrets");
    let verbs = secrets.context("a row for Secrets")?.verbs.join(", ");
    let message = format!("RBAC does not allow {verbs} on secrets in namespace elsewhere");
    let told = |missing: &Missing| missing.to_string().starts_with(&message);
    ensure!(wider.iter().any(told), "{wider:?}");

    release.helm(&[
        "upgrade",
        "sb",
        &chart(),
        "--set",
        "watchNamespaces={elsewhere}",
    ])?;
    let wider = settings(&["--watch-namespaces", "elsewhere"]);
    nothing_missing(client, &wider).await?;
    allows(clients, "elsewhere", &needed(Place::Watched)).await?;
    allows(clients, "seedbed-system", &needed(Place::Own)).await
}

/// The pod is one that the strictest pod security standard takes.
fn check_pod_security(release: &Release<'_>) -> Result<()> {
    release.kubectl(&[
        "label",
        "namespace",
        "seedbed-system",
        "pod-security.kubernetes.io/enforce=restricted",
    ])?;
    let objects = render(&[])?;
    let template = &only(&objects, "Deployment")["spec"]["template"];
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "probe", "namespace": "seedbed-system"},
        "spec": template["spec"],
    });
    let create = |pod: &Value| -> Result<String> {
        let file = release.home.path().join("pod.json");
        std::fs::write(&file, pod.to_string())?;
        let file = file.display().to_string();
        release.kubectl(&["create", "--dry-run=server", "--filename", &file])
    };
    create(&pod).context("the restricted standard refuses the pod")?;
    let mut lax = pod;
    lax["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
    match create(&lax) {
        Ok(_) => bail!("pod security is not enforced here, so this test shows nothing"),
        Err(error) => ensure!(format!("{error:#}").contains("restricted"), "{error:#}"),
    }
    Ok(())
}

async fn install_upgrade_uninstall(seed: &Seed) -> Result<()> {
    let release = Release {
        seed,
        home: tempfile::tempdir()?,
    };
    release.kubectl(&["create", "namespace", "elsewhere"])?;
    let first = ["install", "sb", &chart(), "--create-namespace"];
    let dry_run: Vec<_> = first.iter().copied().chain(["--dry-run=server"]).collect();
    release.kubectl(&["create", "namespace", "seedbed-system"])?;
    release.helm(&dry_run)?;
    ensure!(
        release.names("deployments,roles")?.is_empty(),
        "a dry run made objects"
    );
    release.helm(&[first.as_slice(), &["--set", "crds.install=false"]].concat())?;

    let clients = Clients::new(seed).await?;
    let without = missing(&clients.operator, &settings(&[])).await?;
    let crds = without
        .iter()
        .filter(|missing| matches!(missing, Missing::Crd { .. }));
    ensure!(crds.count() == 3 && without.len() == 3, "{without:?}");

    let notes = release.helm(&["upgrade", "sb", &chart(), "--reset-values"])?;
    ensure!(notes.contains("watches: seedbed-system"), "{notes}");
    for crd in ["controlplanes", "etcdclusters", "nodepools"] {
        let crd = format!("crd/{crd}.seedbed.dev");
        release.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=120s",
            &crd,
        ])?;
    }
    check_rights(&release, &clients).await?;
    check_pod_security(&release)?;

    let made =
        release.names("deployments,roles,rolebindings,serviceaccounts,poddisruptionbudgets")?;
    ensure!(made.len() == 7, "{made:?}");
    release.helm(&["uninstall", "sb"])?;
    let left =
        release.names("deployments,roles,rolebindings,serviceaccounts,poddisruptionbudgets")?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    let crds = release.kubectl(&["get", "crds", "--output=name"])?;
    ensure!(crds.lines().count() == 3, "the CRDs must stay: {crds}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_installs_upgrades_and_uninstalls() -> Result<()> {
    let state = StateDir::for_test("chart")?;
    let seed = Seed::start(&state, seed::Options::default()).await?;
    install_upgrade_uninstall(&seed)
        .await
        .with_context(|| seed.log_tails())
}
