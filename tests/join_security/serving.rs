//! Requests for serving certificates: a kubelet of a pool gets one for its own names and addresses,
//! nobody gets anything else, and what is not the pool's business is not touched.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::PostParams;
use kube::{Api, Client};
use rcgen::{DnType, SanType};
use serde_json::json;

use super::field::{Field, run};
use super::refusals::told;
use super::requests::{Answer, Ask, answer, join};

const NODE_GROUPS: [&str; 2] = ["system:nodes", "system:authenticated"];
const SIGNER: &str = "kubernetes.io/kubelet-serving";

#[test]
fn serving_certificates_are_for_the_nodes_own_names_only() {
    run("serving", async |field| {
        let machines = json!([{"name": "s-1"}, {"name": "s-2"}]);
        let spec = json!({"machines": machines, "serverTLSBootstrap": true});
        field.pool("served", spec).await?;
        field
            .pool("plain", json!({"machines": [{"name": "p-1"}]}))
            .await?;
        nodes_may_ask(field).await?;
        for name in ["s-1", "s-2", "p-1"] {
            let token = field.token_of(name).await?;
            join(field, name, &token).await?;
        }
        for pool in ["served", "plain"] {
            field.condition(pool, "Ready", "True", "AsDesired").await?;
        }
        let kubelet = field.client_as("system:node:s-1", &NODE_GROUPS).await?;
        let own = [
            vec![dns("s-1"), own_address()],
            vec![own_address()],
            vec![dns("s-1")],
        ];
        let mut sent = Vec::new();
        for names in own {
            let ask = Ask {
                names,
                ..serving("s-1")
            };
            sent.push(ask.send(&kubelet).await?);
        }
        for granted in sent {
            ensure!(answer(field, &granted).await? == Answer::Issued);
        }
        refused(field, &kubelet).await?;
        others_are_left_alone(field, &kubelet).await
    });
}

/// The Node authorizer's part, which this API server does not have.
async fn nodes_may_ask(field: &Field<'_>) -> Result<()> {
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "nodes-may-ask"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "system:node-bootstrapper",
        },
        "subjects": [{
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Group",
            "name": "system:nodes",
        }],
    }))?;
    let api: Api<ClusterRoleBinding> = Api::all(field.space.client.clone());
    api.create(&PostParams::default(), &binding).await?;
    Ok(())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// The address that every Node of these tests registers with.
fn own_address() -> SanType {
    SanType::IpAddress([198, 18, 0, 99].into())
}

/// What a kubelet of this Node asks for.
fn serving(node: &str) -> Ask {
    Ask {
        signer: SIGNER.to_owned(),
        usages: vec!["digital signature", "server auth"],
        names: vec![dns(node), own_address()],
        ..Ask::kubelet(node)
    }
}

async fn refused(field: &Field<'_>, kubelet: &Client) -> Result<()> {
    let names = |more: SanType| vec![dns("s-1"), own_address(), more];
    let asks = |names: Vec<SanType>| Ask {
        names,
        ..serving("s-1")
    };
    let uses = |usages: &[&'static str]| Ask {
        usages: usages.to_vec(),
        ..serving("s-1")
    };
    let is = |organization: &str, name: &str| Ask {
        subject: vec![
            (DnType::OrganizationName, organization.to_owned()),
            (DnType::CommonName, name.to_owned()),
        ],
        ..serving("s-1")
    };
    let uri = SanType::URI("spiffe://cluster/admin".try_into().unwrap());
    let mail = SanType::Rfc822Name("a@example.net".try_into().unwrap());
    let mut cases = vec![
        (is("system:nodes", "system:node:s-2"), "OtherName"),
        (is("system:nodes", "system:node:cp-1"), "OtherName"),
        (is("system:masters", "system:node:s-1"), "WrongSubject"),
        (is("system:nodes", "kubernetes-admin"), "WrongSubject"),
        (
            asks(names(SanType::IpAddress([198, 18, 0, 98].into()))),
            "UnknownAddress",
        ),
        (
            asks(names(SanType::IpAddress([127, 0, 0, 1].into()))),
            "UnknownAddress",
        ),
        (asks(names(dns("s-2"))), "UnknownAddress"),
        (asks(names(dns("kubernetes.default.svc"))), "UnknownAddress"),
        (asks(names(dns("*.s-1"))), "UnknownAddress"),
        (asks(Vec::new()), "UnknownAddress"),
        (asks(names(uri)), "Extensions"),
        (asks(names(mail)), "Extensions"),
    ];
    for usages in [
        &["digital signature", "client auth"][..],
        &["digital signature", "server auth", "client auth"],
        &["digital signature", "server auth", "cert sign"],
        &["server auth"],
    ] {
        cases.push((uses(usages), "WrongUsages"));
    }
    let mut sent = Vec::new();
    for (ask, reason) in cases {
        sent.push((ask.send(kubelet).await?, reason));
    }
    let more = ["system:nodes", "system:authenticated", "example:admins"];
    let client = field.client_as("system:node:s-1", &more).await?;
    sent.push((serving("s-1").send(&client).await?, "WrongGroups"));
    told(field, &sent).await
}

/// They stay as they are, for whoever is in charge of them.
async fn others_are_left_alone(field: &Field<'_>, kubelet: &Client) -> Result<()> {
    let node = async |name: &str| {
        let user = format!("system:node:{name}");
        field.client_as(&user, &NODE_GROUPS).await
    };
    let other_signer = Ask {
        signer: "example.net/serving".to_owned(),
        ..serving("s-1")
    };
    let left = [
        // Another signer's, a pool's that does not want them, and a Node's that is in no pool.
        other_signer.send(kubelet).await?,
        serving("p-1").send(&node("p-1").await?).await?,
        serving("stranger").send(&node("stranger").await?).await?,
    ];
    // One that is answered shows that the operator has looked since.
    let last = serving("s-1").send(kubelet).await?;
    ensure!(answer(field, &last).await? == Answer::Issued);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let api: Api<CertificateSigningRequest> = Api::all(field.space.client.clone());
    for name in left {
        let status = api.get(&name).await?.status.unwrap_or_default();
        ensure!(status.conditions.is_none(), "{name}: {status:?}");
    }
    Ok(())
}
