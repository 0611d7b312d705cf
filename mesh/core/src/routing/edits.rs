//! What a route changes of a request that goes on, and of its response: headers, authority and path, as Envoy does.

use super::http::{Action, HeaderEdits, HttpRoute, Rewrite, UriRewrite, Weighted};
use super::lookup::Matched;
use ::http::header::{HOST, HeaderMap};
use ::http::{HeaderName, HeaderValue};

impl HttpRoute {
    /// Changes a request's headers for one of the route's destinations. Its authority is for [`HttpRoute::authority`].
    pub fn edit_request<D>(&self, to: &Weighted<D>, headers: &mut HeaderMap) {
        if self.headers.is_empty() && to.headers.is_empty() {
            return;
        }
        fn of(edits: &HeaderEdits) -> Edits<'_> {
            (&edits.request_remove, &edits.request_set, &edits.request_add)
        }
        edit(self.of_one(), of(&self.headers), of(&to.headers), headers);
    }

    /// Changes a response's headers; `to` is where its request went, `None` where the proxy answers itself.
    pub fn edit_response<D>(&self, to: Option<&Weighted<D>>, headers: &mut HeaderMap) {
        fn of(edits: &HeaderEdits) -> Edits<'_> {
            (&edits.response_remove, &edits.response_set, &edits.response_add)
        }
        match to {
            Some(to) if self.headers.is_empty() && to.headers.is_empty() => {}
            Some(to) => edit(self.of_one(), of(&self.headers), of(&to.headers), headers),
            None => apply(&[of(&self.headers)], headers),
        }
    }

    /// The authority that takes the place of the request's, for one of the route's destinations.
    #[must_use]
    pub fn authority<'a, D>(&'a self, to: &'a Weighted<D>) -> Option<&'a HeaderValue> {
        let rewritten = match &self.action {
            Action::Forward { rewrite, .. } => rewrite.authority.as_ref(),
            Action::Redirect(_) | Action::Direct(_) => None,
        };
        rewritten.or_else(|| self.headers.host()).or_else(|| to.headers.host())
    }

    /// Whether there is but one destination, with whose edits the route's own are one list.
    fn of_one(&self) -> bool {
        matches!(&self.action, Action::Forward { to, .. } if to.len() == 1)
    }
}

impl HeaderEdits {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.request_set.is_empty()
            && self.request_add.is_empty()
            && self.request_remove.is_empty()
            && self.response_set.is_empty()
            && self.response_add.is_empty()
            && self.response_remove.is_empty()
    }

    /// A request's authority, where it is set as if it were a header.
    fn host(&self) -> Option<&HeaderValue> {
        let all = self.request_set.iter().chain(&self.request_add);
        all.filter(|(name, _)| *name == HOST).map(|(_, value)| value).next()
    }
}

/// What is removed, set and added.
type Edits<'a> = (
    &'a [HeaderName],
    &'a [(HeaderName, HeaderValue)],
    &'a [(HeaderName, HeaderValue)],
);

/// The edits of a route and of one of its destinations. The only destination's follow the route's; with several, the chosen
/// one's come before, so that what the route sets prevails.
fn edit(one: bool, route: Edits<'_>, to: Edits<'_>, headers: &mut HeaderMap) {
    if one {
        apply(&[route, to], headers);
    } else {
        apply(&[to], headers);
        apply(&[route], headers);
    }
}

/// One list of edits: what is removed goes first.
fn apply(lists: &[Edits<'_>], headers: &mut HeaderMap) {
    for (remove, ..) in lists {
        for name in *remove {
            if *name != HOST {
                headers.remove(name);
            }
        }
    }
    for (_, set, add) in lists {
        for (name, value) in *set {
            if *name != HOST {
                headers.insert(name, value.clone());
            }
        }
        for (name, value) in *add {
            // A map holds 2^15 of them at most; one that cannot be added is left out.
            if *name != HOST {
                let _ = headers.try_append(name, value.clone());
            }
        }
    }
}

impl Rewrite {
    /// The rewritten path, with the query as it was; `None` where it stays as it is. `matched` is by what the route took the
    /// request.
    #[must_use]
    pub fn path(&self, matched: &Matched<'_>, path_and_query: &str) -> Option<String> {
        match &self.uri {
            UriRewrite::Keep => None,
            UriRewrite::Prefix(prefix) => Some(replace_prefix(matched, path_and_query, prefix)),
            UriRewrite::Regex { pattern, rewrite } => {
                let (path, query) = split(path_and_query);
                Some(pattern.replace(path, rewrite) + query)
            }
        }
    }
}

/// The path, and the query with its question mark.
pub(super) fn split(path_and_query: &str) -> (&str, &str) {
    path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()))
}

/// A path with what was matched of it replaced, nothing more: `/a` of `/ab` becomes `/b` as `/b` and `b`, and slashes are as
/// they come.
pub(super) fn replace_prefix(matched: &Matched<'_>, path_and_query: &str, prefix: &str) -> String {
    let (path, query) = split(path_and_query);
    // Without a match, or a path in it, what was matched is the first slash.
    let at = matched.by.map_or(path.len().min(1), |by| by.matched(path));
    let rest = path.get(at..).unwrap_or_default();
    [prefix, rest, query].concat()
}
