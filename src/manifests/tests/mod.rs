//! One file a subject; what they share.

mod files;
mod forbidden;
mod kubelet;
mod pods;
mod random;

use std::collections::BTreeMap;

use serde_json::Value;
use zeroize::Zeroizing;

use super::*;
use crate::crd::Arg;
use crate::domain::{
    ControlPlane, Etcd, EtcdMembers, Founding, InitialClusterState, Machine, Member, Profile,
};
use crate::pki::fixture::control_plane;
use crate::pki::{ClusterPki, KeyPair, Leaf, MachinePki, ServiceAccountKeys};

/// Stands for a certificate and its key; no test here reads them.
fn pair(name: &str) -> KeyPair {
    KeyPair {
        certificate_pem: format!("certificate of {name}\n"),
        key_pem: Zeroizing::new(format!("key of {name}\n")),
    }
}

fn cluster() -> ClusterPki {
    ClusterPki {
        ca: pair("ca"),
        etcd_ca: Some(pair("etcd-ca")),
        front_proxy_ca: pair("front-proxy-ca"),
        service_account: ServiceAccountKeys {
            public_pem: "public\n".to_owned(),
            private_pem: Zeroizing::new("private\n".to_owned()),
        },
    }
}

/// The stacked members' settings.
fn members(control_plane: &mut ControlPlane) -> &mut EtcdMembers {
    match &mut control_plane.etcd {
        Etcd::Stacked(members) => members,
        Etcd::External(_) => panic!("its etcd is elsewhere"),
    }
}

fn leaves() -> MachinePki {
    Leaf::ALL
        .into_iter()
        .map(|leaf| (leaf, pair(&format!("{leaf:?}"))))
        .collect()
}

fn founding(control_plane: &ControlPlane) -> Founding {
    Founding {
        token: "token".to_owned(),
        members: control_plane.machines.iter().map(Member::founder).collect(),
        state: InitialClusterState::New,
    }
}

fn render(control_plane: &ControlPlane, machine: &Machine) -> Vec<NodeFile> {
    let founding = founding(control_plane);
    machine_files(control_plane, machine, &founding, &cluster(), &leaves()).unwrap()
}

/// The files of the first machine as text, by path.
fn texts(control_plane: &ControlPlane) -> BTreeMap<String, String> {
    render(control_plane, &control_plane.machines[0])
        .into_iter()
        .map(|file| (file.path, String::from_utf8(file.content.to_vec()).unwrap()))
        .collect()
}

/// A static pod of the first machine.
fn pod(control_plane: &ControlPlane, name: &str) -> Value {
    let text = &texts(control_plane)[&format!("/etc/kubernetes/manifests/{name}.yaml")];
    serde_saphyr::from_str(text).unwrap()
}

/// The command line of a static pod of the first machine.
fn command(control_plane: &ControlPlane, name: &str) -> Vec<String> {
    let pod = pod(control_plane, name);
    let command = pod["spec"]["containers"][0]["command"].as_array().unwrap();
    command
        .iter()
        .map(|part| part.as_str().unwrap().to_owned())
        .collect()
}

fn arg(name: &str, value: &str) -> Arg {
    Arg {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}
