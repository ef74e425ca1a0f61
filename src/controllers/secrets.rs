//! The Secrets of a control plane or an EtcdCluster, as objects. Pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use crate::controllers::fields::{Problem, ProblemReason};
use crate::controllers::names;
use crate::domain::{Founding, Machine, Member};
use crate::machine_config::MachineConfig;
use crate::pki::secret_names::{self, VALUE};
use crate::pki::state::SecretData;

/// Type of every Secret of the Cluster API contract.
const SECRET_TYPE: &str = "cluster.x-k8s.io/secret";

/// What all Secrets of one object share.
#[derive(Clone, Copy)]
pub struct SecretMaker<'a> {
    /// Name of the object.
    pub name: &'a str,
    pub namespace: &'a str,
    /// The label that has this name on everything that belongs to the object.
    pub label: &'static str,
    pub owner: &'a OwnerReference,
}

impl SecretMaker<'_> {
    /// A Secret with this content.
    pub fn secret(
        &self,
        name: String,
        machine: Option<&str>,
        content: &str,
        data: SecretData,
    ) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(self.namespace.to_owned()),
                labels: Some(names::labels_under(self.label, self.name, machine, content)),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            type_: Some(SECRET_TYPE.to_owned()),
            data: Some(data),
            ..Secret::default()
        }
    }

    /// The Secret that a machine boots from.
    pub fn machine_config(
        &self,
        name: String,
        machine: &str,
        config: &MachineConfig,
        member: Option<&Member>,
    ) -> Secret {
        let data = data([
            (VALUE, config.user_data.as_slice()),
            ("format", config.format.as_bytes()),
        ]);
        let mut secret = self.secret(name, Some(machine), names::CONTENT_MACHINE_CONFIG, data);
        let files = serde_json::Value::from_iter(config.files.clone()).to_string();
        secret.metadata.annotations = Some(BTreeMap::from([
            (
                names::ANNOTATION_REVISION.to_owned(),
                config.revision.clone(),
            ),
            (names::ANNOTATION_FILES.to_owned(), files),
        ]));
        // Before a learner votes, and before a founder is called healthy, this must be seen to be
        // published (I9).
        if let Some(kept) = member.filter(|member| member.started) {
            let key = names::ANNOTATION_KEEPS_DATA_OF.to_owned();
            secret.annotations_mut().insert(key, kept.name.clone());
        }
        secret
    }
}

/// A Secret as it shall be, and as it is stored.
pub type Change = (Box<Secret>, Option<Box<Secret>>);

/// The machine configs of all machines, rendered.
pub struct Rendered {
    /// Revision of each machine's.
    pub revisions: BTreeMap<String, String>,
    /// Those that are not in place.
    pub changes: Vec<Change>,
}

/// Renders every machine.
///
/// # Errors
/// What keeps any of them from being rendered: all are published or none.
pub fn rendered(
    maker: SecretMaker<'_>,
    machines: &[Machine],
    founding: &Founding,
    stored: &BTreeMap<String, Secret>,
    render: impl Fn(&Machine) -> Result<MachineConfig, String>,
) -> Result<Rendered, Vec<Problem>> {
    let (mut revisions, mut changes) = (BTreeMap::new(), Vec::new());
    let mut problems = Vec::new();
    for machine in machines {
        let config = match render(machine) {
            Ok(config) => config,
            Err(message) => {
                problems.push(Problem {
                    path: format!("spec.machines[{}]", machine.name),
                    reason: ProblemReason::InvalidSpec,
                    message,
                });
                continue;
            }
        };
        let name = secret_names::machine_config(maker.name, &machine.name);
        let stored = stored.get(&name);
        let member = founding.member_of(&machine.name);
        let desired = maker.machine_config(name, machine.name.as_str(), &config, member);
        revisions.insert(machine.name.to_string(), config.revision);
        if !stored.is_some_and(|stored| in_place(stored, &desired)) {
            changes.push((Box::new(desired), stored.cloned().map(Box::new)));
        }
    }
    if problems.is_empty() {
        Ok(Rendered { revisions, changes })
    } else {
        Err(problems)
    }
}

/// Data of a Secret from keys and contents.
pub fn data<const N: usize>(pairs: [(&str, &[u8]); N]) -> SecretData {
    pairs
        .map(|(key, content)| (key.to_owned(), ByteString(content.to_vec())))
        .into()
}

/// Whether the stored Secret already has what the desired one wants: data, labels, annotations.
pub fn in_place(stored: &Secret, desired: &Secret) -> bool {
    let covers = |stored: Option<&BTreeMap<String, String>>,
                  desired: Option<&BTreeMap<String, String>>| {
        desired
            .into_iter()
            .flatten()
            .all(|(key, value)| stored.and_then(|stored| stored.get(key)) == Some(value))
    };
    stored.data == desired.data
        && covers(
            stored.metadata.labels.as_ref(),
            desired.metadata.labels.as_ref(),
        )
        && covers(
            stored.metadata.annotations.as_ref(),
            desired.metadata.annotations.as_ref(),
        )
}
