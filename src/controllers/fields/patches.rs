//! Patches of rendered files.

use super::Checker;
use crate::crd::{Patch, PatchTarget};
use crate::domain::{KubeletPatch, PatchChange};

/// Reads the patches of the kubelet's configuration; those of other targets come later.
pub fn kubelet_patches(
    checker: &mut Checker,
    path: &str,
    given: Option<&Vec<Patch>>,
) -> Vec<KubeletPatch> {
    let mut patches = Vec::new();
    for (index, patch) in given.into_iter().flatten().enumerate() {
        let path = format!("{path}[{index}]");
        if patch.target != PatchTarget::KubeletConfiguration {
            let instead = format!(
                "remove the patch of {}, only kubeletconfiguration can be patched",
                serde_json::json!(patch.target)
            );
            checker.not_yet(format!("{path}.target"), &instead);
            continue;
        }
        let kind = patch.patch_type.unwrap_or_default();
        let changes = checker.take(
            format!("{path}.patch"),
            PatchChange::parse(kind, &patch.patch),
        );
        patches.extend(changes.into_iter().flatten().map(|change| KubeletPatch {
            path: path.clone(),
            change,
        }));
    }
    patches
}
