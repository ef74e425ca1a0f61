//! What the members of one etcd have in common, in a ControlPlane and in an EtcdCluster.

use std::time::Duration;

use super::{
    Checker, allowed_args, allowed_envs, args, directory, duration, env_vars, image_repository,
    image_tag, sans,
};
use crate::crd::{EtcdSource, NodeLoss};
use crate::domain::EtcdMembers;
use crate::manifests::ArgOwner;

/// Checks the members' settings below `base`. `tag` is the image's where none is given; without
/// either there is no image.
pub fn etcd_members(
    checker: &mut Checker,
    base: &str,
    given: &EtcdSource,
    repository: &str,
    tag: Option<&str>,
) -> Option<EtcdMembers> {
    let at = |field: &str| format!("{base}.{field}");
    let data_dir = checker.or_default(
        &at("dataDir"),
        given.data_dir.clone(),
        "/var/lib/etcd".to_owned(),
    );
    let data_dir = directory(checker, &at("dataDir"), &data_dir);
    let repository = checker.or_default(
        &at("imageRepository"),
        given.image_repository.clone(),
        repository.to_owned(),
    );
    image_repository(checker, &at("imageRepository"), &repository);
    match (&given.image_tag, tag) {
        (Some(tag), _) => {
            image_tag(checker, &at("imageTag"), tag);
        }
        (None, Some(tag)) => checker.note_default(&at("imageTag"), &tag),
        (None, None) => {}
    }
    node_loss(checker, &at("nodeLoss"), given.node_loss.as_ref());
    let extra_args = args(checker, &at("extraArgs"), given.extra_args.as_ref());
    let extra_envs = env_vars(checker, &at("extraEnvs"), given.extra_envs.as_ref());
    allowed_args(checker, &at("extraArgs"), ArgOwner::Etcd, &extra_args);
    allowed_envs(checker, &at("extraEnvs"), ArgOwner::Etcd, &extra_envs);
    let server = given.server_cert_sans.as_ref();
    let server_cert_sans = sans(checker, &at("serverCertSANs"), server);
    let peer = given.peer_cert_sans.as_ref();
    let peer_cert_sans = sans(checker, &at("peerCertSANs"), peer);
    let tag = given.image_tag.as_deref().or(tag)?;
    Some(EtcdMembers {
        data_dir,
        image: format!("{repository}/etcd:{tag}"),
        extra_args,
        extra_envs,
        server_cert_sans,
        peer_cert_sans,
    })
}

fn node_loss(checker: &mut Checker, path: &str, given: Option<&NodeLoss>) {
    let Some(given) = given else { return };
    if let Some(timeout) = &given.timeout {
        let (least, most) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
        duration(checker, &format!("{path}.timeout"), timeout, least, most);
    }
}
