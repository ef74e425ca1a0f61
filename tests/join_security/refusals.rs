//! Requests that must not be granted: each is denied with a reason in its condition and an event.

use std::time::Duration;

use anyhow::{Result, ensure};
use rcgen::{DnType, SanType};
use serde_json::json;

use super::field::{Field, id, run};
use super::requests::{Answer, Ask, answer, is_unauthorized, join};

const GROUPS: [&str; 3] = [
    "system:bootstrappers",
    "system:bootstrappers:seedbed:node-pool",
    "system:authenticated",
];

/// A request that must not be granted: who asks, for what, and the reason of the answer.
struct Case {
    who: Who,
    ask: Ask,
    reason: &'static str,
}

enum Who {
    /// Whoever has this token.
    Token(String),
    /// The user of this token id in these groups.
    Clothes(String, Vec<&'static str>),
}

#[test]
fn whoever_may_not_join_is_refused_in_words() {
    run("refusals", async |field| {
        let machines = json!([{"name": "w-1"}, {"name": "w-2"}, {"name": "w-3"}]);
        field.pool("listed", json!({"machines": machines})).await?;
        field
            .pool("other", json!({"machines": [{"name": "o-1"}]}))
            .await?;
        field.pool("open", json!({"maxNodes": 2})).await?;
        let (first, second) = (field.token_of("w-1").await?, field.token_of("w-2").await?);
        let (other, open) = (field.token_of("o-1").await?, field.token_of("open").await?);

        let mut cases = forms(&first);
        cases.extend(identities(&first));
        cases.extend(names(&first, &other, &open));
        refused(field, cases).await?;

        // The token of w-1 is still good for its one request, and then for no other.
        let client = field.client_with(&first).await?;
        let granted = Ask::kubelet("w-1").send(&client).await?;
        ensure!(answer(field, &granted).await? == Answer::Issued);
        refused(
            field,
            vec![case(
                Who::Token(first.clone()),
                Ask::kubelet("w-1"),
                "SecondUse",
            )],
        )
        .await?;
        field.register("w-1").await?;
        gone(field, &first, "w-1").await?;

        // The open pool takes in two, and then nobody.
        join(field, "n-1", &open).await?;
        join(field, "n-2", &open).await?;
        field
            .condition("open", "NodesReady", "True", "AsDesired")
            .await?;
        let full = vec![
            case(Who::Token(open.clone()), Ask::kubelet("n-3"), "PoolFull"),
            case(Who::Token(open), Ask::kubelet("n-1"), "NodeExists"),
        ];
        refused(field, full).await?;
        // A machine that is not used any more, whose request was under way.
        let client = field.client_with(&second).await?;
        field.operator().freeze()?;
        let late = Ask::kubelet("w-2").send(&client).await?;
        let shorter = json!({"spec": {"machines": [{"name": "w-1"}, {"name": "w-3"}]}});
        field
            .space
            .patch::<seedbed::crd::NodePool>("listed", &shorter)
            .await?;
        field.operator().thaw()?;
        let Answer::Denied { reason, .. } = answer(field, &late).await? else {
            anyhow::bail!("a machine that was taken out has joined");
        };
        ensure!(
            ["NotWanted", "UnknownToken"].contains(&reason.as_str()),
            "{reason}"
        );
        Ok(())
    });
}

fn case(who: Who, ask: Ask, reason: &'static str) -> Case {
    Case { who, ask, reason }
}

/// Sends all of them, and checks every answer and that it was told in the seed.
async fn refused(field: &Field<'_>, cases: Vec<Case>) -> Result<()> {
    let mut sent = Vec::new();
    for case in cases {
        let client = match &case.who {
            Who::Token(token) => field.client_with(token).await?,
            Who::Clothes(id, groups) => {
                let user = format!("system:bootstrap:{id}");
                field.client_as(&user, groups).await?
            }
        };
        sent.push((case.ask.send(&client).await?, case.reason));
    }
    told(field, &sent).await
}

/// Every one of these requests is denied for its reason, and that was told in the seed.
pub async fn told(field: &Field<'_>, sent: &[(String, &str)]) -> Result<()> {
    for (name, wanted) in sent {
        let Answer::Denied { reason, message } = answer(field, name).await? else {
            anyhow::bail!("{name} was granted and should be refused for {wanted}");
        };
        ensure!(
            reason == *wanted,
            "{name}: {reason} ({message}) instead of {wanted}"
        );
        ensure!(message.len() > 20, "{name}: {message}");
    }
    let events = super::operator_ground::until("events of all refusals", async || {
        let events = field.events().await?;
        let told = |name: &String, reason: &str| {
            let words = format!("CertificateSigningRequest {name}: {reason}: ");
            events
                .iter()
                .any(|(kind, note)| kind == "JoinRefused" && note.starts_with(&words))
        };
        let all = sent.iter().all(|(name, reason)| told(name, reason));
        Ok(all.then_some(events.len()))
    })
    .await?;
    println!(
        "{} requests refused, each with a reason and an event ({events} events)",
        sent.len()
    );
    Ok(())
}

/// Right token, wrong request.
fn forms(token: &str) -> Vec<Case> {
    let good = Ask::kubelet("w-1");
    let with = |reason, change: &dyn Fn(&mut Ask)| {
        let mut ask = good.clone();
        change(&mut ask);
        case(Who::Token(token.to_owned()), ask, reason)
    };
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let (o, cn) = (DnType::OrganizationName, DnType::CommonName);
    let subject = |organization: &str, name: &str| {
        vec![
            (o.clone(), organization.to_owned()),
            (cn.clone(), name.to_owned()),
        ]
    };
    let mut cases = vec![
        with("WrongSigner", &|a| {
            a.signer = "kubernetes.io/kube-apiserver-client".to_owned()
        }),
        with("WrongSigner", &|a| {
            a.signer = "example.net/other".to_owned()
        }),
        with("WrongSigner", &|a| {
            a.signer = "kubernetes.io/kubelet-serving".to_owned();
            a.usages = vec!["digital signature", "server auth"];
        }),
        with("AlternativeNames", &|a| a.names = vec![dns("w-1")]),
        with("AlternativeNames", &|a| {
            a.names = vec![dns("kubernetes.default.svc")]
        }),
        with("AlternativeNames", &|a| {
            a.names = vec![SanType::IpAddress([10, 0, 0, 1].into())]
        }),
        with("AlternativeNames", &|a| {
            a.names = vec![SanType::URI("spiffe://cluster/admin".try_into().unwrap())];
        }),
        with("AlternativeNames", &|a| {
            a.names = vec![SanType::Rfc822Name("a@example.net".try_into().unwrap())];
        }),
    ];
    for usages in [
        vec!["client auth"],
        vec!["digital signature"],
        vec!["digital signature", "server auth"],
        vec!["digital signature", "client auth", "server auth"],
        vec!["digital signature", "client auth", "cert sign"],
        vec!["digital signature", "client auth", "code signing"],
    ] {
        cases.push(with("WrongUsages", &|a| a.usages = usages.clone()));
    }
    for (organization, name) in [
        ("system:masters", "system:node:w-1"),
        ("system:nodes", "kubernetes-admin"),
        ("system:nodes", "w-1"),
        ("system:nodes", "system:node:"),
        ("system:nodes", "system:node:W-1"),
        ("system:nodes", "system:node:w-1/../w-2"),
        ("kubeadm:cluster-admins", "kubernetes-admin"),
    ] {
        cases.push(with("WrongSubject", &|a| {
            a.subject = subject(organization, name)
        }));
    }
    cases.push(with("WrongSubject", &|a| a.subject.remove(0).1.clear()));
    cases.push(with("WrongSubject", &|a| {
        a.subject
            .push((DnType::OrganizationalUnitName, "admins".to_owned()));
    }));
    cases
}

/// The right request, from somebody whose groups are not those of a machine's token.
fn identities(token: &str) -> Vec<Case> {
    let clothes = |groups: &[&'static str]| Who::Clothes(id(token).to_owned(), groups.to_vec());
    let plus = |group: &'static str| [&GROUPS[..], &[group]].concat();
    // Kubernetes' own approver grants a well-formed one to whoever has the right to approve, such as
    // these; what it does not take for a kubelet's request is ours alone to answer.
    let mut odd = Ask::kubelet("w-1");
    odd.usages = vec!["client auth"];
    let good = || Ask::kubelet("w-1");
    vec![
        case(clothes(&plus("system:masters")), odd.clone(), "WrongGroups"),
        case(
            clothes(&plus("system:bootstrappers:kubeadm:default-node-token")),
            odd,
            "WrongGroups",
        ),
        case(clothes(&plus("system:nodes")), good(), "WrongGroups"),
        case(
            Who::Clothes("zzzzzz".to_owned(), GROUPS.to_vec()),
            good(),
            "UnknownToken",
        ),
    ]
}

/// Right in form, but for a name that is not the token's.
fn names(listed: &str, other: &str, open: &str) -> Vec<Case> {
    let token = |token: &str| Who::Token(token.to_owned());
    vec![
        case(token(listed), Ask::kubelet("w-2"), "OtherMachine"),
        case(token(listed), Ask::kubelet("cp-1"), "OtherMachine"),
        case(token(listed), Ask::kubelet("unheard-of"), "OtherMachine"),
        case(token(other), Ask::kubelet("w-1"), "OtherMachine"),
        case(token(open), Ask::kubelet("cp-1"), "NameTaken"),
        case(token(open), Ask::kubelet("w-2"), "NameTaken"),
        case(token(open), Ask::kubelet("o-1"), "NameTaken"),
    ]
}

/// After the join: the token is gone, and nothing that could be used again is left.
async fn gone(field: &Field<'_>, token: &str, machine: &str) -> Result<()> {
    super::operator_ground::until("the token to go", async || {
        let live = field.tokens().await?.contains_key(id(token));
        Ok((!live).then_some(()))
    })
    .await?;
    ensure!(
        field.published_token(machine).await?.is_none(),
        "user data keeps a token"
    );
    // The API server keeps what it has authenticated for a few seconds.
    let began = std::time::Instant::now();
    while !is_unauthorized(field, token).await.unwrap_or(false) {
        ensure!(
            began.elapsed() < Duration::from_secs(30),
            "a used token still works"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
