//! Stacked etcd, the only kind of this release.

use std::time::Duration;

use crate::controllers::fields::{self, Checker};
use crate::crd::{EtcdSource, NodeLoss};
use crate::domain::Etcd;
use crate::manifests::ArgOwner;
use crate::versions::{Release, etcd_image};

/// Checks the etcd of the control plane. `None` when another kind is asked for.
pub fn stacked(
    checker: &mut Checker,
    given: Option<&EtcdSource>,
    release: Option<&Release>,
    image_repository: &str,
) -> Option<Etcd> {
    let given = given.cloned().unwrap_or_default();
    one_kind(checker, &given);
    if given.cluster_ref.is_some() {
        checker.not_yet("spec.etcd.clusterRef", "leave it out for stacked etcd");
    }
    if given.external.is_some() {
        checker.not_yet("spec.etcd.external", "leave it out for stacked etcd");
    }
    let data_path = "spec.etcd.dataDir";
    let data_dir = checker.or_default(data_path, given.data_dir, "/var/lib/etcd".to_owned());
    let data_dir = fields::directory(checker, data_path, &data_dir);
    let repository_path = "spec.etcd.imageRepository";
    let repository = checker.or_default(
        repository_path,
        given.image_repository,
        image_repository.to_owned(),
    );
    fields::image_repository(checker, repository_path, &repository);
    match (&given.image_tag, release) {
        (Some(tag), _) => {
            fields::image_tag(checker, "spec.etcd.imageTag", tag);
        }
        (None, Some(release)) => checker.note_default("spec.etcd.imageTag", &release.etcd_tag),
        (None, None) => {}
    }
    node_loss(checker, "spec.etcd.nodeLoss", given.node_loss.as_ref());
    let extra_args = fields::args(checker, "spec.etcd.extraArgs", given.extra_args.as_ref());
    let extra_envs = fields::env_vars(checker, "spec.etcd.extraEnvs", given.extra_envs.as_ref());
    fields::allowed_args(checker, "spec.etcd.extraArgs", ArgOwner::Etcd, &extra_args);
    fields::allowed_envs(checker, "spec.etcd.extraEnvs", ArgOwner::Etcd, &extra_envs);
    let server_cert_sans = fields::sans(
        checker,
        "spec.etcd.serverCertSANs",
        given.server_cert_sans.as_ref(),
    );
    let peer_cert_sans = fields::sans(
        checker,
        "spec.etcd.peerCertSANs",
        given.peer_cert_sans.as_ref(),
    );
    Some(Etcd {
        data_dir,
        image: etcd_image(&repository, given.image_tag.as_deref(), release?),
        extra_args,
        extra_envs,
        server_cert_sans,
        peer_cert_sans,
    })
}

fn one_kind(checker: &mut Checker, given: &EtcdSource) {
    let stacked = EtcdSource {
        cluster_ref: None,
        external: None,
        ..given.clone()
    };
    let kinds = [
        given.cluster_ref.is_some(),
        given.external.is_some(),
        stacked != EtcdSource::default(),
    ];
    if kinds.into_iter().filter(|given| *given).count() > 1 {
        checker.invalid(
            "spec.etcd",
            "has fields of more than one kind of etcd; keep the stacked fields, clusterRef or \
             external",
        );
    }
}

fn node_loss(checker: &mut Checker, path: &str, given: Option<&NodeLoss>) {
    let Some(given) = given else { return };
    if let Some(timeout) = &given.timeout {
        let (least, most) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
        fields::duration(checker, &format!("{path}.timeout"), timeout, least, most);
    }
}
