use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use jiff::SignedDuration;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::*;
use crate::tokens::Approval;
use crate::tokens::serving::{self, KnownNode};

/// The PEM of a request for this subject and these alternative names.
fn pem(subject: &[(DnType, &str)], names: Vec<SanType>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params.subject_alt_names = names;
    let key = KeyPair::generate().unwrap();
    let request = params.serialize_request(&key).unwrap();
    request.pem().unwrap().into_bytes()
}

fn subject(node: &str) -> Vec<(DnType, String)> {
    vec![
        (DnType::OrganizationName, NODES.to_owned()),
        (DnType::CommonName, format!("system:node:{node}")),
    ]
}

fn of(node: &str) -> Vec<u8> {
    let subject = subject(node);
    let subject: Vec<(DnType, &str)> = subject
        .iter()
        .map(|(kind, value)| (kind.clone(), value.as_str()))
        .collect();
    pem(&subject, Vec::new())
}

fn texts<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.map(str::to_owned).into()
}

fn request(pem: Vec<u8>) -> Request {
    Request {
        name: "node-csr-1".to_owned(),
        uid: "1".to_owned(),
        resource_version: "1".to_owned(),
        signer: CLIENT_SIGNER.to_owned(),
        username: "system:bootstrap:abcdef".to_owned(),
        groups: texts([AUTHENTICATED, BOOTSTRAPPERS, NODE_POOL_GROUP]),
        usages: texts(["digital signature", "client auth"]),
        request: pem,
        decided: false,
    }
}

#[test]
fn a_kubelets_request_is_granted_with_and_without_key_encipherment() {
    let mut good = request(of("w-1"));
    assert_eq!(node_asked_for(&good), Ok("w-1".to_owned()));
    good.usages.insert("key encipherment".to_owned());
    assert_eq!(node_asked_for(&good), Ok("w-1".to_owned()));
}

#[test]
fn everything_else_is_refused() {
    let good = of("w-1");
    let with = |change: &dyn Fn(&mut Request)| {
        let mut request = request(good.clone());
        change(&mut request);
        node_asked_for(&request).unwrap_err()
    };
    for signer in [
        "kubernetes.io/kube-apiserver-client",
        "kubernetes.io/kubelet-serving",
        "",
    ] {
        assert_eq!(
            with(&|r| r.signer = signer.to_owned()),
            Refusal::WrongSigner
        );
    }
    for groups in [
        texts([AUTHENTICATED, BOOTSTRAPPERS]),
        texts([
            AUTHENTICATED,
            BOOTSTRAPPERS,
            NODE_POOL_GROUP,
            "system:masters",
        ]),
        texts([AUTHENTICATED, NODE_POOL_GROUP]),
        texts(["system:nodes"]),
    ] {
        assert_eq!(with(&|r| r.groups = groups.clone()), Refusal::WrongGroups);
    }
    for usages in [
        texts([]),
        texts(["client auth"]),
        texts(["digital signature", "server auth"]),
        texts(["digital signature", "client auth", "server auth"]),
        texts(["digital signature", "client auth", "cert sign"]),
        texts(["any"]),
    ] {
        assert_eq!(with(&|r| r.usages = usages.clone()), Refusal::WrongUsages);
    }
    let twice = [good.clone(), good.clone()].concat();
    let cut = good[..good.len() / 2].to_vec();
    let certificate = b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n".to_vec();
    for unreadable in [Vec::new(), b"x".to_vec(), twice, cut, certificate] {
        let refusal = with(&|r| r.request = unreadable.clone());
        assert_eq!(refusal, Refusal::Unreadable);
    }
}

#[test]
fn a_certificate_says_no_more_than_a_kubelets() {
    let refused = |subject: &[(DnType, &str)], names: Vec<SanType>| {
        node_asked_for(&request(pem(subject, names))).unwrap_err()
    };
    let (o, cn) = (DnType::OrganizationName, DnType::CommonName);
    let subjects: [&[(DnType, &str)]; 9] = [
        &[],
        &[(cn.clone(), "system:node:w-1")],
        &[(o.clone(), NODES)],
        &[
            (o.clone(), "system:masters"),
            (cn.clone(), "system:node:w-1"),
        ],
        &[(o.clone(), NODES), (cn.clone(), "w-1")],
        &[(o.clone(), NODES), (cn.clone(), "system:node:")],
        &[(o.clone(), NODES), (cn.clone(), "system:node:W_1")],
        &[(o.clone(), NODES), (cn.clone(), "kubernetes-admin")],
        &[
            (o.clone(), NODES),
            (cn.clone(), "system:node:w-1"),
            (DnType::OrganizationalUnitName, "x"),
        ],
    ];
    for subject in subjects {
        assert_eq!(
            refused(subject, Vec::new()),
            Refusal::WrongSubject,
            "{subject:?}"
        );
    }
    let good: &[(DnType, &str)] = &[(o, NODES), (cn, "system:node:w-1")];
    for name in [
        SanType::DnsName("w-1".try_into().unwrap()),
        SanType::IpAddress([10, 0, 0, 1].into()),
        SanType::Rfc822Name("a@example.net".try_into().unwrap()),
        SanType::URI("spiffe://x".try_into().unwrap()),
    ] {
        assert_eq!(refused(good, vec![name]), Refusal::AlternativeNames);
    }
}

#[test]
fn a_request_has_to_be_signed_with_its_own_key() {
    let good = pem::parse(&of("w-1"));
    let other = pem::parse(&of("w-1"));
    // The signature of the other request under this one's content.
    let mut forged = good.clone();
    let tail = 70;
    forged.truncate(good.len() - tail);
    forged.extend(&other[other.len() - tail..]);
    let refusal = node_asked_for(&request(pem::write(&forged)));
    let refusal = refusal.unwrap_err();
    let wrong = [Refusal::WrongSignature, Refusal::Unreadable];
    assert!(wrong.contains(&refusal), "{refusal:?}");
    // Only so that the helper's key type is the one that kubelets use.
    assert!(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).is_ok());
}

mod pem {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    pub fn parse(text: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(text).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        STANDARD.decode(body).unwrap()
    }

    pub fn write(der: &[u8]) -> Vec<u8> {
        let body = STANDARD.encode(der);
        let head = "CERTIFICATE REQUEST";
        format!("-----BEGIN {head}-----\n{body}\n-----END {head}-----\n").into_bytes()
    }
}

#[test]
fn one_token_grants_one_request_for_one_machine() {
    let now = Timestamp::from_second(1000).unwrap();
    let request = request(of("w-1"));
    let other = Approval {
        request: "node-csr-0".to_owned(),
        uid: "0".to_owned(),
        at: now,
    };
    let same = Approval {
        uid: "1".to_owned(),
        ..other.clone()
    };
    let bearer = |left, granted| Bearer {
        expires: now.checked_add(SignedDuration::from_secs(left)).ok(),
        now,
        granted,
    };
    let judge =
        |machine, bearer, exists, wanted| judge_listed(&request, bearer, machine, exists, wanted);
    assert_eq!(
        judge("w-1", bearer(1, None), false, true),
        Ok("w-1".to_owned())
    );
    let again = judge("w-1", bearer(1, Some(&same)), false, true);
    assert_eq!(again, Ok("w-1".to_owned()), "recorded before a crash");
    let refused = |judged: Result<String, Refusal>| judged.unwrap_err();
    let fresh = bearer(1, None);
    assert_eq!(
        refused(judge("w-2", fresh, false, true)),
        Refusal::OtherMachine
    );
    assert_eq!(
        refused(judge("w-1", bearer(0, None), false, true)),
        Refusal::TokenExpired
    );
    let used = bearer(1, Some(&other));
    assert_eq!(refused(judge("w-1", used, false, true)), Refusal::SecondUse);
    assert_eq!(
        refused(judge("w-1", fresh, true, true)),
        Refusal::NodeExists
    );
    assert_eq!(
        refused(judge("w-1", fresh, false, false)),
        Refusal::NotWanted
    );

    let place = OpenPlace {
        free: 1,
        ..OpenPlace::default()
    };
    let judge = |bearer, place| judge_open(&request, bearer, place);
    assert_eq!(judge(fresh, place), Ok("w-1".to_owned()));
    let full = OpenPlace { free: 0, ..place };
    assert_eq!(refused(judge(fresh, full)), Refusal::PoolFull);
    assert_eq!(judge(bearer(1, Some(&same)), full), Ok("w-1".to_owned()));
    let taken = OpenPlace {
        name_taken: true,
        ..place
    };
    assert_eq!(refused(judge(fresh, taken)), Refusal::NameTaken);
    let there = OpenPlace {
        node_exists: true,
        ..place
    };
    assert_eq!(refused(judge(fresh, there)), Refusal::NodeExists);
    let closed = OpenPlace {
        closed: true,
        ..place
    };
    assert_eq!(refused(judge(fresh, closed)), Refusal::NotWanted);
}

#[test]
fn a_serving_certificate_is_for_the_nodes_own_names_and_addresses() {
    let node = KnownNode {
        name: "w-1".to_owned(),
        names: texts(["host-1"]),
        addresses: [[10, 0, 0, 1].into()].into(),
    };
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let ip = |last| SanType::IpAddress([10, 0, 0, last].into());
    let make = |names: Vec<SanType>| {
        let subject = subject("w-1");
        let subject: Vec<(DnType, &str)> = subject
            .iter()
            .map(|(kind, value)| (kind.clone(), value.as_str()))
            .collect();
        let mut request = request(pem(&subject, names));
        request.signer = serving::SERVING_SIGNER.to_owned();
        request.username = "system:node:w-1".to_owned();
        request.groups = texts([AUTHENTICATED, NODES]);
        request.usages = texts(["digital signature", "server auth"]);
        request
    };
    let judge = |names| serving::judge(&make(names), &node);
    assert_eq!(judge(vec![dns("w-1"), dns("host-1"), ip(1)]), Ok(()));
    for names in [
        Vec::new(),
        vec![dns("w-2")],
        vec![dns("w-1"), ip(2)],
        vec![dns("kubernetes.default")],
    ] {
        assert_eq!(judge(names), Err(Refusal::UnknownAddress));
    }
    let mail = SanType::Rfc822Name("a@example.net".try_into().unwrap());
    assert_eq!(judge(vec![dns("w-1"), mail]), Err(Refusal::Extensions));
    let mut client = make(vec![dns("w-1")]);
    client.usages = texts(["digital signature", "client auth"]);
    assert_eq!(serving::judge(&client, &node), Err(Refusal::WrongUsages));
    let mut admin = make(vec![dns("w-1")]);
    admin.groups.insert("system:masters".to_owned());
    assert_eq!(serving::judge(&admin, &node), Err(Refusal::WrongGroups));
    let mut other = make(vec![dns("w-1")]);
    other.username = "system:node:w-2".to_owned();
    assert_eq!(serving::judge(&other, &node), Err(Refusal::WrongSigner));
}
