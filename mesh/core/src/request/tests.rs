use super::{Normalization, Refused, path_of};
use std::borrow::Cow;

const SETTINGS: [Normalization; 4] = [
    Normalization::None,
    Normalization::Base,
    Normalization::MergeSlashes,
    Normalization::DecodeAndMergeSlashes,
];

/// What Envoy 1.40 forwards under BASE, MERGE_SLASHES and DECODE_AND_MERGE_SLASHES. `""`: the same as the one before.
const FORWARDED: &[(&str, &str, &str, &str)] = &[
    ("/", "/", "", ""),
    ("/a/b", "/a/b", "", ""),
    ("/a//b", "/a//b", "/a/b", ""),
    ("/a/./b", "/a/b", "", ""),
    ("/a/../b", "/b", "", ""),
    ("/a/%2e/b", "/a/b", "", ""),
    ("/a/%2E%2e/b", "/b", "", ""),
    ("/a/.%2e/b", "/b", "", ""),
    ("/a%2fb", "/a%2fb", "", "/a/b"),
    ("/a%2Fb", "/a%2Fb", "", "/a/b"),
    ("/a%5cb", "/a%5cb", "", "/a/b"),
    ("/a\\b", "/a/b", "", ""),
    ("/a/..\\b", "/b", "", ""),
    ("/%61dmin", "/admin", "", ""),
    ("/%41", "/A", "", ""),
    ("/a%2db", "/a-b", "", ""),
    ("/a%7eb", "/a~b", "", ""),
    ("/a%zzb", "/a%zzb", "", ""),
    ("/a%", "/a%", "", ""),
    ("/a%2", "/a%2", "", ""),
    ("/a;b", "/a;b", "", ""),
    ("/a;/b", "/a;/b", "", ""),
    ("/a/..;/b", "/b", "", ""),
    ("/a?x=//", "/a?x=//", "", ""),
    ("/a?%2f", "/a?%2f", "", ""),
    ("/a//?x//y", "/a//?x//y", "/a/?x//y", ""),
    ("/..", "/", "", ""),
    ("/.", "/", "", ""),
    ("/../..", "/", "", ""),
    ("/a/..", "/", "", ""),
    ("/a/.", "/a/", "", ""),
    ("//", "//", "", ""),
    ("///", "///", "//", ""),
    ("//a", "//a", "/a", ""),
    ("///a", "///a", "/a", ""),
    ("//..", "/", "", ""),
    ("/a///", "/a///", "/a/", ""),
    ("/a///b//", "/a///b//", "/a/b/", ""),
    ("/a/..//b", "//b", "/b", ""),
    ("/a//../b", "/a/b", "", ""),
    ("/a/%2f../b", "/a/%2f../b", "", "/a/b"),
    ("/a%2f..%2fb", "/a%2f..%2fb", "", "/b"),
    ("/a%252fb", "/a%252fb", "", ""),
    ("/a%25", "/a%25", "", ""),
    ("/a\"b", "/a%22b", "", ""),
    ("/a<b", "/a%3Cb", "", ""),
    ("/a`b", "/a%60b", "", ""),
    ("/a{b}", "/a%7Bb%7D", "", ""),
    ("/a|b", "/a%7Cb", "", ""),
    ("/a^b", "/a%5Eb", "", ""),
    ("/a[b]", "/a[b]", "", ""),
    ("/a'b", "/a'b", "", ""),
    ("/a*b", "/a*b", "", ""),
    ("/a!$&()+,=:@b", "/a!$&()+,=:@b", "", ""),
    ("/a%20b", "/a%20b", "", ""),
    ("/a%3fb", "/a%3fb", "", ""),
    ("/a%23b", "/a%23b", "", ""),
    ("/a%3B", "/a%3B", "", ""),
    ("/a%2Eb", "/a.b", "", ""),
    ("/a.b", "/a.b", "", ""),
    ("/a/.b/c", "/a/.b/c", "", ""),
    ("/a/..b", "/a/..b", "", ""),
    ("/a/...", "/a/...", "", ""),
    ("/%2e%2e/%2e", "/", "", ""),
    ("/a/%5c../b", "/a/%5c../b", "", "/a/b"),
    ("/%%36%31", "/%2561", "", ""),
    ("/%%30%30", "/%2500", "", ""),
    ("/%%361", "/%2561", "", ""),
    ("/%6%31", "/%2561", "", ""),
    ("/%%3%31", "/%%2531", "", ""),
    ("/a%%2fb", "/a%%2fb", "", "/a%/b"),
    ("/%%32fb", "/%252fb", "", ""),
    ("/a%25%32%66b", "/a%252fb", "", ""),
    ("/a%e2%82%ac", "/a%e2%82%ac", "", ""),
    ("/%7E", "/~", "", ""),
    ("/a/b/../../..", "/", "", ""),
    ("/a%2F%2Fb", "/a%2F%2Fb", "", "/a/b"),
    ("/a%5C..%5Cb", "/a%5C..%5Cb", "", "/b"),
    ("/a/%2e%2e", "/", "", ""),
    ("/a/.%2E/", "/", "", ""),
    ("/a?b/../c", "/a?b/../c", "", ""),
    ("/a\\\\b", "/a//b", "/a/b", ""),
    ("/a%2e%2e/b", "/a../b", "", ""),
    ("/a/%2e%2e%2fb", "/a/..%2fb", "", "/b"),
    ("/a%5c%5cb", "/a%5c%5cb", "", "/a/b"),
    ("/.%2fa", "/.%2fa", "", "/a"),
    ("/a/.;/b", "/a/b", "", ""),
    ("/a/.;;x/b", "/a/b", "", ""),
    ("/a/..;x/b", "/b", "", ""),
    ("/a/..;x=y;z/b", "/b", "", ""),
    ("/a/..;", "/", "", ""),
    ("/a/.;x", "/a/", "", ""),
    ("/a/..%3b/b", "/a/..%3b/b", "", ""),
    ("/a/%2e%2e;/b", "/a/..;/b", "", ""),
    ("/a/.%2e;/b", "/a/..;/b", "", ""),
    ("/a\\..;/b", "/a/..;/b", "", ""),
    ("/a/...;/b", "/a/...;/b", "", ""),
    ("/a;/../b", "/b", "", ""),
    ("/a/..;x\\b", "/", "", ""),
    ("/a/x;/b", "/a/x;/b", "", ""),
    ("/a/..;%2fb", "/", "", "/b"),
    ("/a/;/../b", "/a/b", "", ""),
    ("/a/..;/..;/b", "/b", "", ""),
    ("/a/..;?q", "/?q", "", ""),
    ("/a/b/..;x/..;y", "/", "", ""),
    ("/a/%2f", "/a/%2f", "", "/a/"),
    ("/a/..%2f", "/a/..%2f", "", "/"),
    ("/a/%5c%2e%2e/b", "/a/%5c../b", "", "/a/b"),
    ("/x/%2e%2e%5cb", "/x/..%5cb", "", "/b"),
];

#[test]
fn paths_are_forwarded_as_envoy_forwards_them() {
    for (path, base, merged, decoded) in FORWARDED {
        let merged = if merged.is_empty() { base } else { merged };
        let decoded = if decoded.is_empty() { merged } else { decoded };
        for (setting, expected) in SETTINGS.into_iter().zip([path, base, merged, decoded]) {
            let normal = setting.normalize(path).unwrap();
            assert_eq!(normal, *expected, "{path} under {setting}");
        }
    }
}

#[test]
fn what_is_normal_is_not_copied() {
    for setting in SETTINGS {
        for path in ["/", "/api/data", "/a;b/c.d?x=%2f//", "/a:b@c,d", "*"] {
            assert!(
                matches!(setting.normalize(path), Ok(Cow::Borrowed(_))),
                "{path} under {setting}"
            );
        }
    }
}

#[test]
fn some_paths_are_refused() {
    for setting in SETTINGS {
        for (path, refused) in [
            ("/a#b", Refused::Fragment),
            ("/a?b#c", Refused::Fragment),
            ("/#", Refused::Fragment),
            ("/é", Refused::Character),
            ("/a b", Refused::Character),
            ("/a\u{7f}", Refused::Character),
            ("/a?b\u{1}", Refused::Character),
        ] {
            assert_eq!(setting.normalize(path), Err(refused), "{path:?} under {setting}");
        }
        let null = if setting == Normalization::None {
            Ok("/a%00b".into())
        } else {
            Err(Refused::Null)
        };
        assert_eq!(setting.normalize("/a%00b"), null);
    }
}

#[test]
fn only_a_parameter_passes_for_another_path_where_slashes_are_decoded_and_merged() {
    let decode = Normalization::DecodeAndMergeSlashes;
    for trick in [
        "//api/data",
        "/api//data",
        "/api/./data",
        "/x/../api/data",
        "/api%2fdata",
        "/api%2Fdata",
        "/%2fapi%2fdata",
        "/api/%2e/data",
        "/x/%2e%2e/api/data",
        "/%61pi/data",
        "/api\\data",
        "/api%5cdata",
        "/x/..;/api/data",
        "/x/..%2fapi/data",
        "/api/x/%2e%2e%2fdata",
        "/api/data?",
        "/api/data?x",
        "/api/.;a/data",
        "/.//api/./data",
        "/\\api/data",
    ] {
        let normal = decode.normalize(trick).unwrap();
        assert_eq!(path_of(&normal), "/api/data", "{trick}");
        // Once more changes nothing.
        assert_eq!(decode.normalize(&normal).unwrap(), normal, "{trick}");
    }
    for passes in ["/api/data;", "/api;x/data", "/api%3b/data"] {
        assert_ne!(path_of(&decode.normalize(passes).unwrap()), "/api/data", "{passes}");
    }
}

#[test]
fn settings_have_istios_names() {
    for name in ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] {
        assert_eq!(Normalization::named(name).unwrap().to_string(), name);
    }
    assert_eq!(Normalization::named("DEFAULT"), Some(Normalization::default()));
    assert_eq!(Normalization::named("base"), None);
}
