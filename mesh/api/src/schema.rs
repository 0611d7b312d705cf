//! Schemas of values that resources of several kinds have, as Istio's CRDs constrain them.

use schemars::{Schema, SchemaGenerator, json_schema};

/// The title that marks a value as nullable until [`crate::crd`] says so in its place: the derivation calls every optional
/// field nullable, which is taken out there, and no key of our own would survive until then.
pub(crate) const OR_NULL: &str = "or null";

/// A protobuf `uint32`.
pub(crate) fn uint32(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
}

/// A protobuf `UInt32Value`: may be null.
pub(crate) fn uint32_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0, "maximum": u32::MAX, "title": OR_NULL})
}

/// A protobuf `uint64`.
pub(crate) fn uint64(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0})
}

/// A port's number.
pub(crate) fn port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "integer",
        "minimum": 0,
        "maximum": u32::MAX,
        "x-kubernetes-validations": [{
            "message": "port must be between 1-65535",
            "rule": "0 < self && self <= 65535"
        }]
    })
}

/// A protobuf `int32`.
pub(crate) fn int32(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int32"})
}

/// A protobuf `BoolValue`: may be null.
pub(crate) fn bool_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "boolean", "title": OR_NULL})
}

/// A protobuf `DoubleValue` of a percentage: may be null.
pub(crate) fn percent_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "number", "format": "double", "minimum": 0, "maximum": 100, "title": OR_NULL})
}

/// A duration of at least a millisecond.
pub(crate) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "x-kubernetes-validations": [{
            "message": "must be a valid duration greater than 1ms",
            "rule": "duration(self) >= duration('1ms')"
        }]
    })
}

/// The namespace of a target: none, as it is the policy's own.
pub(crate) fn same_namespace(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "x-kubernetes-validations": [{
            "message": "cross namespace referencing is not currently supported",
            "rule": "self.size() == 0"
        }]
    })
}

/// An address of the web.
pub(crate) fn http_url(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 2048,
        "x-kubernetes-validations": [{
            "message": "url must have scheme http:// or https://",
            "rule": "url(self).getScheme() in [\"http\", \"https\"]"
        }]
    })
}
