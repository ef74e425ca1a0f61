//! Owner references: what is deleted with what.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// The reference that makes `owner` the controller of an object in the same namespace. `None` for
/// an owner that was never stored, since it has no UID.
pub fn controller_reference<K>(owner: &K) -> Option<OwnerReference>
where
    K: Resource<DynamicType = ()>,
{
    Some(OwnerReference {
        // `kubectl delete --cascade=foreground` waits for what carries this.
        block_owner_deletion: Some(true),
        ..owner.controller_owner_ref(&())?
    })
}

/// The controller of an object, if it has one.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// Whether exactly this `owner` (by UID, not by name) controls the object.
pub fn is_controlled_by<K: Resource>(meta: &ObjectMeta, owner: &K) -> bool {
    let uid = owner.meta().uid.as_ref();
    uid.is_some() && controller_of(meta).map(|controller| &controller.uid) == uid
}

/// Whether an earlier object of the same kind and name as `owner` controls the object: the garbage
/// collector is about to delete it.
pub fn is_of_predecessor<K>(meta: &ObjectMeta, owner: &K) -> bool
where
    K: Resource<DynamicType = ()>,
{
    controller_of(meta).is_some_and(|controller| {
        controller.kind == K::kind(&())
            && Some(&controller.name) == owner.meta().name.as_ref()
            && Some(&controller.uid) != owner.meta().uid.as_ref()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn owner(uid: Option<&str>) -> ConfigMap {
        let mut owner = ConfigMap::default();
        owner.metadata.name = Some("prod".to_owned());
        owner.metadata.uid = uid.map(str::to_owned);
        owner
    }

    #[test]
    fn control_goes_by_uid() {
        let reference = controller_reference(&owner(Some("1"))).unwrap();
        assert_eq!(reference.controller, Some(true));
        assert_eq!(reference.block_owner_deletion, Some(true));
        assert_eq!(reference.kind, "ConfigMap");
        let owned = ObjectMeta {
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        };
        assert!(is_controlled_by(&owned, &owner(Some("1"))));
        assert!(!is_controlled_by(&owned, &owner(Some("2"))));
        assert!(!is_controlled_by(&owned, &owner(None)));
        assert!(!is_controlled_by(&ObjectMeta::default(), &owner(None)));
        assert!(is_of_predecessor(&owned, &owner(Some("2"))));
        assert!(!is_of_predecessor(&owned, &owner(Some("1"))));
        assert!(!is_of_predecessor(
            &ObjectMeta::default(),
            &owner(Some("1"))
        ));
    }

    #[test]
    fn an_owner_that_was_never_stored_cannot_own() {
        assert_eq!(controller_reference(&owner(None)), None);
    }
}
