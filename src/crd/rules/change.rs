//! Rules of what may change, once an object exists.

use kube::core::Rule;

use super::rule;

/// Whether an optional field is there: `has()` of each part of the path.
fn given(who: &str, path: &str) -> String {
    let ends = path.match_indices('.').map(|(end, _)| end);
    let parts: Vec<String> = ends
        .chain([path.len()])
        .map(|end| format!("has({who}.{})", &path[..end]))
        .collect();
    parts.join(" && ")
}

/// A one-way field: equal to what it was, an absent one counting as its default, so that writing the
/// default out later is no change. `default` is a CEL expression.
fn unchanged(path: &str, default: &str) -> String {
    let (new, old) = (given("self", path), given("oldSelf", path));
    format!(
        "{new} ? ({old} ? self.{path} == oldSelf.{path} : self.{path} == {default}) : !({old}) || oldSelf.{path} == {default}"
    )
}

pub fn one_way(path: &str, default: &str) -> Rule {
    rule(
        unchanged(path, default),
        format!(
            "{path} cannot be changed once the object exists; restore the old value, or create a new object"
        ),
    )
}

/// A one-way choice: whether the field is there or not.
pub fn one_way_presence(path: &str) -> Rule {
    rule(
        format!("({}) == ({})", given("self", path), given("oldSelf", path)),
        format!(
            "{path} cannot be added or removed once the object exists; create a new object for another kind of etcd"
        ),
    )
}

/// `spec.clusterName`, whose default is the object's name.
pub fn one_way_cluster_name() -> Rule {
    rule(
        unchanged("spec.clusterName", "self.metadata.name"),
        "spec.clusterName cannot be changed once the object exists; restore the old value, or create a new object",
    )
}

pub fn immutable(field: &str) -> Rule {
    rule(
        "self == oldSelf",
        format!(
            "{field} cannot be changed once the object exists; restore the old value, or create a new object"
        ),
    )
}

/// Forward only, one minor at a time (kubeadm's upgrade rule).
pub fn kubernetes_version_step() -> Rule {
    let exact = r"^v1\\.[0-9]{1,3}\\.[0-9]{1,3}$";
    let number = |who: &str, part: u8| format!("int({who}.split('.')[{part}])");
    let (minor, old_minor) = (number("self", 1), number("oldSelf", 1));
    let (patch, old_patch) = (number("self", 2), number("oldSelf", 2));
    rule(
        format!(
            "!self.matches('{exact}') || !oldSelf.matches('{exact}') || {minor} == {old_minor} + 1 || ({minor} == {old_minor} && {patch} >= {old_patch})"
        ),
        "version can only go forward, one minor release at a time; restore the old version or choose a later one",
    )
}
