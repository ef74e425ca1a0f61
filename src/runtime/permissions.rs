//! Every permission the operator needs, in one table: the start-up check asks for these, and
//! `tests/chart.rs` compares them with what the chart grants. Nothing is cluster-scoped.

/// The namespace in which a permission is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Each namespace whose objects are reconciled.
    Watched,
    /// The operator's own namespace.
    Own,
}

/// Verbs on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    pub place: Place,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural name, with the subresource after a slash.
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
}

/// API group of our own kinds.
const SEEDBED: &str = "seedbed.dev";

const fn watched(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
) -> Permission {
    Permission {
        place: Place::Watched,
        group,
        resource,
        verbs,
    }
}

/// What the operator asks of the seed cluster. The order is that of the chart's Role.
pub const PERMISSIONS: &[Permission] = &[
    watched(SEEDBED, "controlplanes", &["get", "list", "watch"]),
    watched(SEEDBED, "controlplanes/status", &["patch"]),
    // Owner references with blockOwnerDeletion need it where the admission plugin
    // OwnerReferencesPermissionEnforcement is on; a ControlPlane owns what we make for it.
    watched(SEEDBED, "controlplanes/finalizers", &["update"]),
    watched(
        SEEDBED,
        "etcdclusters",
        &["get", "list", "watch", "create", "update"],
    ),
    watched(SEEDBED, "etcdclusters/status", &["patch"]),
    // One on machines of its own owns the Secrets of those.
    watched(SEEDBED, "etcdclusters/finalizers", &["update"]),
    // A finalizer is kept on pools until their Nodes are drained.
    watched(SEEDBED, "nodepools", &["get", "list", "watch", "patch"]),
    watched(SEEDBED, "nodepools/status", &["patch"]),
    watched(SEEDBED, "nodepools/finalizers", &["update"]),
    // Secrets go with their owner, by garbage collection, but machine configs of workers that are
    // taken out while their pool stays.
    watched(
        "",
        "secrets",
        &["get", "list", "watch", "create", "update", "delete"],
    ),
    watched("", "configmaps", &["get", "create", "patch"]),
    watched("events.k8s.io", "events", &["create", "patch"]),
    Permission {
        place: Place::Own,
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["get", "create", "update"],
    },
];
