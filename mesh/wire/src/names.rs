//! Endpoints that are known by names: their messages, and what a client may believe of them.

use mesh_core::destination::Name;

use crate::convert::ConvertError;
use crate::resources as wire;

/// The names of a destination with so many endpoints.
pub(crate) fn names(messages: &[wire::EndpointName], endpoints: usize) -> Result<Vec<Name>, ConvertError> {
    let name = |message: &wire::EndpointName| {
        let known = usize::try_from(message.endpoint).is_ok_and(|at| at < endpoints);
        let host = &message.host;
        let is_name = !host.is_empty() && host.len() <= 255 && host.bytes().all(|byte| byte.is_ascii_graphic());
        if !known || !is_name {
            return Err(ConvertError::EndpointName(message.endpoint));
        }
        Ok(Name {
            endpoint: message.endpoint,
            host: host.as_str().into(),
            all: message.all,
        })
    };
    messages.iter().map(name).collect()
}

impl From<&Name> for wire::EndpointName {
    fn from(name: &Name) -> Self {
        Self {
            endpoint: name.endpoint,
            host: name.host.to_string(),
            all: name.all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_and_of_an_endpoint() {
        let message = |endpoint, host: &str| wire::EndpointName {
            endpoint,
            host: host.to_owned(),
            all: true,
        };
        let good = message(1, "api.example.com");
        let parsed = names(std::slice::from_ref(&good), 2).unwrap();
        assert_eq!(wire::EndpointName::from(&parsed[0]), good);
        for bad in [
            message(2, "a"),
            message(0, ""),
            message(0, "a b"),
            message(0, &"a".repeat(256)),
        ] {
            assert!(names(&[bad], 2).is_err());
        }
    }
}
