//! What the user adds to the machine config.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// How files and commands reach a machine.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineConfig {
    /// Format of the user data. CloudConfig: cloud-init's `#cloud-config`. Ignition: Ignition 3.
    /// Default CloudConfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<MachineConfigFormat>,
    /// Further files to write on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    pub files: Option<Vec<MachineFileSpec>>,
    /// Shell commands that run before the kubelet starts, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 8192)))]
    pub pre_commands: Option<Vec<String>>,
    /// Shell commands that run after the kubelet was started, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 8192)))]
    pub post_commands: Option<Vec<String>>,
    /// Also write kernel modules, sysctls, the kubelet unit and containerd settings.
    /// Default false: the image brings them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_preparation: Option<bool>,
    /// Largest user data, in bytes as stored in the Secret; nothing larger is published.
    /// Default 786432 (what fits into a Secret beside everything else).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4096, max = 1048576))]
    pub size_budget_bytes: Option<i64>,
}

/// Format of the user data.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
pub enum MachineConfigFormat {
    #[default]
    CloudConfig,
    Ignition,
}

/// A file that the user brings. Exactly one of `content` and `contentFrom`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_content())]
pub struct MachineFileSpec {
    /// Absolute path on the machine.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::absolute_path("path"))]
    pub path: String,
    /// Mode, four octal digits. Default "0644".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 4))]
    #[x_kube(validation = rules::permissions())]
    pub permissions: Option<String>,
    /// Owner and group, `user:group`. Default "root:root".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 65))]
    #[x_kube(validation = rules::owner())]
    pub owner: Option<String>,
    /// Content as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262144))]
    pub content: Option<String>,
    /// Content from a Secret or ConfigMap in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_from: Option<ContentSource>,
}

/// Where a file's content is. Exactly one.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_source())]
pub struct ContentSource {
    /// A key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeySelector>,
    /// A key of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeySelector>,
}

/// A key of a Secret or ConfigMap in the same namespace.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySelector {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name("name"))]
    pub name: String,
    /// Key in its data.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::data_key())]
    pub key: String,
}
