//! Whether one authority may take another's place while pods run: one pure function. A pod's certificate must verify at
//! every peer at every moment, so trust is spread before anything is issued under it, and is never withdrawn from what is
//! in use.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{Authority, hex};

/// What is to be done about an authority that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is the one in force.
    Same,
    /// It may be issued from at once: everybody trusts its root already.
    Replace,
    /// Its roots are to be published first, while certificates still come from the one in force.
    PublishFirst,
    /// It must not be used: its roots would make peers refuse the certificates in use.
    Refuse(Refusal),
}

/// Why an authority must not take the place of the one in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "its roots do not hold the root in force, \"{subject}\" (serial {serial}), under which every running pod has its \
     certificate: peers would refuse each other. Put both roots into the Secret; when every certificate is issued under \
     the new one, take the old one out"
)]
pub struct Refusal {
    /// The subject of the root in force.
    pub subject: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
}

/// Decides about `next` while `in_force` is in use.
#[must_use]
pub fn change(in_force: Option<&Authority>, next: &Authority) -> Change {
    let Some(held) = in_force else {
        return Change::Replace;
    };
    if held.signing() == next.signing() && held.intermediates() == next.intermediates() && held.roots() == next.roots()
    {
        return Change::Same;
    }
    if !among(next, held.anchor()) {
        return Change::Refuse(named(held.anchor()));
    }
    if among(held, next.anchor()) {
        Change::Replace
    } else {
        Change::PublishFirst
    }
}

/// Whether an authority's roots hold this one: as peers see it, by name and key, so that a renewed root is the same.
fn among(authority: &Authority, root: &[u8]) -> bool {
    let Ok((_, root)) = X509Certificate::from_der(root) else {
        return false;
    };
    authority.roots().iter().any(|held| {
        X509Certificate::from_der(held).is_ok_and(|(_, held)| {
            held.subject().as_raw() == root.subject().as_raw() && held.public_key().raw == root.public_key().raw
        })
    })
}

fn named(root: &[u8]) -> Refusal {
    X509Certificate::from_der(root).map_or_else(
        |_| Refusal {
            subject: String::new(),
            serial: String::new(),
        },
        |(_, root)| Refusal {
            subject: root.subject().to_string(),
            serial: hex(root.raw_serial()),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::fixtures::{Made, now};

    #[test]
    fn trust_comes_before_issue_and_is_not_withdrawn_from_what_is_in_use() {
        let (old, new) = (Made::root("old"), Made::root("new"));
        let (one, two) = (old.intermediate("one"), old.intermediate("two"));
        let other = new.intermediate("three");
        let authority = |made: &Made, roots: &[&Made]| made.authority(roots, now()).unwrap();
        let refused = |change| matches!(change, Change::Refuse(refusal) if refusal.subject == "CN=old");

        let in_force = authority(&one, &[&old]);
        assert_eq!(change(None, &in_force), Change::Replace);
        assert_eq!(change(Some(&in_force), &authority(&one, &[&old])), Change::Same);
        assert_eq!(change(Some(&in_force), &authority(&two, &[&old])), Change::Replace);
        assert_eq!(change(Some(&in_force), &authority(&old, &[&old])), Change::Replace);
        assert!(refused(change(Some(&in_force), &authority(&other, &[&new]))));
        // The way to another root: publish, issue, withdraw.
        assert_eq!(
            change(Some(&in_force), &authority(&one, &[&old, &new])),
            Change::Replace
        );
        assert_eq!(
            change(Some(&in_force), &authority(&other, &[&old, &new])),
            Change::PublishFirst
        );
        let both = authority(&one, &[&old, &new]);
        assert_eq!(change(Some(&both), &authority(&other, &[&new, &old])), Change::Replace);
        assert!(refused(change(Some(&both), &authority(&other, &[&new]))));
        let switched = authority(&other, &[&old, &new]);
        assert_eq!(change(Some(&switched), &authority(&other, &[&new])), Change::Replace);
    }

    #[test]
    fn a_renewed_root_of_the_same_name_and_key_is_the_same_root() {
        let root = Made::root("old");
        let renewed = root.renewed();
        assert_ne!(root.der(), renewed.der());
        let one = root.intermediate("one");
        let in_force = one.authority(&[&root], now()).unwrap();
        let next = one.authority(&[&renewed], now()).unwrap();
        assert_eq!(change(Some(&in_force), &next), Change::Replace);
    }
}
