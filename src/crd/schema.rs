//! Hand-written pieces of schema and what is done to every generated CRD.

use schemars::{Schema, SchemaGenerator, json_schema};

/// An object whose fields belong to another API; unknown ones are kept.
pub fn free_form_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
