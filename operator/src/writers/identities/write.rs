//! Writing a Secret, of which the API server answers with the metadata alone: nobody reads back what was just written, and
//! with thousands of Secrets its encoding is noticed.

use http::HeaderValue;
use http::header::ACCEPT;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{PostParams, Request};
use kube::core::PartialObjectMeta;
use kube::{Client, Error, Resource, ResourceExt};

/// Kubernetes API concepts, "Receiving resources as Tables" and "partial object metadata".
const METADATA: HeaderValue = HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// Creates a Secret, or replaces the one that it was made of.
pub(super) async fn write(
    client: &Client,
    secret: &Secret,
    replaces: bool,
) -> Result<PartialObjectMeta<Secret>, Error> {
    let requests = Request::new(Secret::url_path(&(), secret.namespace().as_deref()));
    let (parameters, body) = (
        PostParams::default(),
        serde_json::to_vec(secret).map_err(Error::SerdeError)?,
    );
    let request = if replaces {
        requests.replace(&secret.name_any(), &parameters, body)
    } else {
        requests.create(&parameters, body)
    };
    let mut request = request.map_err(Error::BuildRequest)?;
    request.headers_mut().insert(ACCEPT, METADATA);
    client.request(request).await
}
