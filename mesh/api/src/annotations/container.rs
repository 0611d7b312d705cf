//! The sidecar's container: its kind, image, resources and volumes.

use serde_json::{Map, Value};

use super::values;
use crate::Invalid;

/// What a pod says of its sidecar's container. `None` and empty mean "as the mesh is configured".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// [`super::NATIVE_SIDECAR`].
    pub native: Option<bool>,
    /// [`super::PROXY_IMAGE`].
    pub image: Option<String>,
    /// [`super::PROXY_IMAGE_TYPE`].
    pub image_type: Option<String>,
    /// [`super::PROXY_CPU`].
    pub cpu: Option<String>,
    /// [`super::PROXY_CPU_LIMIT`].
    pub cpu_limit: Option<String>,
    /// [`super::PROXY_MEMORY`].
    pub memory: Option<String>,
    /// [`super::PROXY_MEMORY_LIMIT`].
    pub memory_limit: Option<String>,
    /// [`super::USER_VOLUME`]: a volume's name and its other fields.
    pub volumes: Map<String, Value>,
    /// [`super::USER_VOLUME_MOUNT`]: a volume's name and the other fields of its mount.
    pub mounts: Map<String, Value>,
}

impl Container {
    /// Takes an annotation of this family; `false` when it is of another.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, Invalid> {
        match name {
            super::NATIVE_SIDECAR => self.native = Some(values::boolean(name, value)?),
            super::PROXY_IMAGE => self.image = Some(image(value)?),
            super::PROXY_IMAGE_TYPE => self.image_type = Some(image_type(name, value)?),
            super::PROXY_CPU => self.cpu = Some(values::quantity(name, value)?),
            super::PROXY_CPU_LIMIT => self.cpu_limit = Some(values::quantity(name, value)?),
            super::PROXY_MEMORY => self.memory = Some(values::quantity(name, value)?),
            super::PROXY_MEMORY_LIMIT => self.memory_limit = Some(values::quantity(name, value)?),
            super::USER_VOLUME => self.volumes = by_volume(name, value, VOLUMES, |_| true)?,
            super::USER_VOLUME_MOUNT => self.mounts = by_volume(name, value, MOUNTS, is_mount)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

const VOLUMES: &str = r#"JSON such as {"NAME": {"configMap": {"name": "ca"}}}"#;
const MOUNTS: &str = r#"JSON such as {"NAME": {"mountPath": "/etc/ca", "readOnly": true}}"#;

/// A JSON object from a volume's name to an object.
fn by_volume(
    name: &str,
    value: &str,
    accepted: &str,
    good: impl Fn(&Map<String, Value>) -> bool,
) -> Result<Map<String, Value>, Invalid> {
    let refuse = || Invalid::new(name, value, accepted);
    let map: Map<String, Value> = serde_json::from_str(value).map_err(|_| refuse())?;
    let named = |volume: &str| {
        (1..=63).contains(&volume.len())
            && volume
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !volume.starts_with('-')
            && !volume.ends_with('-')
    };
    if map
        .iter()
        .all(|(volume, fields)| named(volume) && fields.as_object().is_some_and(&good))
    {
        Ok(map)
    } else {
        Err(refuse())
    }
}

fn is_mount(fields: &Map<String, Value>) -> bool {
    fields
        .get("mountPath")
        .and_then(Value::as_str)
        .is_some_and(|path| path.starts_with('/'))
}

fn image(value: &str) -> Result<String, Invalid> {
    let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic());
    if plain {
        Ok(value.to_owned())
    } else {
        Err(Invalid::new(super::PROXY_IMAGE, value, "an image reference"))
    }
}

/// The part of an image's tag that names its kind.
pub(crate) fn image_type(name: &str, value: &str) -> Result<String, Invalid> {
    let plain = (1..=32).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if plain {
        Ok(value.to_owned())
    } else {
        Err(Invalid::new(
            name,
            value,
            "default, distroless or another type of image",
        ))
    }
}
