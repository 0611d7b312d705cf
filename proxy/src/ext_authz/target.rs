//! Another target for a request, as an authorizer says: its method, path, authority or query.

use super::verdict::Changes;
use ::http::Request;
use ::http::header::HOST;
use ::http::uri::{Authority, PathAndQuery};

/// Changes a request's method and target; whether anything is another one now.
pub(super) fn change<B>(changes: &Changes, request: &mut Request<B>) -> Result<bool, &'static str> {
    let Changes {
        method,
        path,
        host,
        parameters,
        removed_parameters,
        ..
    } = changes;
    if let Some(method) = method {
        *request.method_mut() = method.clone();
    }
    let query = !(parameters.is_empty() && removed_parameters.is_empty());
    if path.is_none() && host.is_none() && !query {
        return Ok(method.is_some());
    }
    let mut parts = request.uri().clone().into_parts();
    if let Some(host) = host {
        let authority = Authority::try_from(host.as_bytes()).ok();
        let authority = authority.filter(|it| !it.as_str().contains('@'));
        let authority = authority.ok_or("the authority that it sets is none")?;
        if parts.authority.is_some() {
            parts.authority = Some(authority);
        } else {
            request.headers_mut().insert(HOST, host.clone());
        }
    }
    if path.is_some() || query {
        let before = parts.path_and_query.as_ref().map_or("/", PathAndQuery::as_str);
        let before = path.as_deref().unwrap_or(before);
        let after = match query {
            true => with_query(before, parameters, removed_parameters),
            false => before.to_owned(),
        };
        let after = PathAndQuery::try_from(after)
            .ok()
            .filter(|it| it.as_str().starts_with('/'));
        parts.path_and_query = Some(after.ok_or("the path that it sets is none")?);
    }
    *request.uri_mut() = parts.try_into().map_err(|_| "the target that it sets is none")?;
    Ok(true)
}

/// A path with other parameters in its query. Names are compared as they are written.
fn with_query(target: &str, set: &[(String, String)], removed: &[String]) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let stays = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default();
        !(parameter.is_empty() || removed.iter().any(|it| it == name) || set.iter().any(|(it, _)| it == name))
    };
    let mut query: Vec<String> = query.split('&').filter(stays).map(str::to_owned).collect();
    query.extend(
        set.iter()
            .filter(|(name, _)| !removed.contains(name))
            .map(|(name, value)| format!("{name}={value}")),
    );
    match query.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", query.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::{HeaderValue, Method};

    #[test]
    fn another_target() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let path = |path: &str| Changes {
            path: Some(path.to_owned()),
            ..Changes::default()
        };
        let host = |host: &'static str| Changes {
            host: Some(HeaderValue::from_static(host)),
            ..Changes::default()
        };
        for (changes, expected) in [
            (Changes::default(), Ok("GET /a?x=1&y=2&x=3 a.b")),
            (path("/b"), Ok("GET /b a.b")),
            (path("b"), Err("the path that it sets is none")),
            (host("c:80"), Ok("GET /a?x=1&y=2&x=3 c:80")),
            (host("a@c"), Err("the authority that it sets is none")),
            (
                Changes {
                    method: Some(Method::PUT),
                    parameters: vec![pair("x", "4"), pair("z", "5")],
                    removed_parameters: vec!["y".to_owned()],
                    ..Changes::default()
                },
                Ok("PUT /a?x=4&z=5 a.b"),
            ),
            (
                Changes {
                    removed_parameters: vec!["x".to_owned(), "y".to_owned()],
                    ..Changes::default()
                },
                Ok("GET /a a.b"),
            ),
        ] {
            let mut request = Request::get("/a?x=1&y=2&x=3").header(HOST, "a.b").body(()).unwrap();
            let found = change(&changes, &mut request).map(|_| {
                let host = request.headers()[HOST].to_str().unwrap();
                format!("{} {} {host}", request.method(), request.uri())
            });
            assert_eq!(found.as_deref().map_err(|error| *error), expected, "{changes:?}");
        }
    }
}
