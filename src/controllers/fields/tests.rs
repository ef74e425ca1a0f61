use std::time::Duration;

use super::*;

fn messages<T>(check: impl FnOnce(&mut Checker) -> T) -> Vec<String> {
    let mut checker = Checker::default();
    check(&mut checker);
    let (problems, _) = checker.finish();
    problems.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn accepts<T>(check: impl FnOnce(&mut Checker) -> T) {
    assert_eq!(messages(check), Vec::<String>::new());
}

#[track_caller]
fn refuses<T>(fragment: &str, check: impl FnOnce(&mut Checker) -> T) {
    let found = messages(check);
    assert!(
        found.len() == 1 && found[0].starts_with("f: ") && found[0].contains(fragment),
        "{found:?} lacks {fragment:?}"
    );
}

#[test]
fn paths_are_absolute_and_plain() {
    for good in ["/", "/etc/kubernetes", "/srv/a b/c.d"] {
        accepts(|c| absolute_path(c, "f", good));
    }
    for bad in [
        "",
        "etc",
        "/etc/../root",
        "/etc//x",
        "/etc/",
        "/a\nb",
        "/./a",
    ] {
        refuses("is not an absolute path", |c| absolute_path(c, "f", bad));
    }
}

#[test]
fn folders_lose_their_trailing_slash() {
    let mut checker = Checker::default();
    assert_eq!(directory(&mut checker, "f", "/srv/pki/"), "/srv/pki");
    assert!(checker.finish().0.is_empty());
    refuses("not a folder of its own", |c| directory(c, "f", "/"));
    refuses("not an absolute path", |c| directory(c, "f", "pki"));
}

#[test]
fn durations_have_bounds() {
    let check = |c: &mut Checker, text: &str| {
        let bounds = (Duration::from_secs(60), Duration::from_secs(86_400));
        duration(c, "f", text, bounds.0, bounds.1);
    };
    for good in ["1m", "24h", "1h30m", "90s"] {
        accepts(|c| check(c, good));
    }
    for out in ["59s", "25h"] {
        refuses("of 1m to 24h", |c| check(c, out));
    }
    for bad in ["", "5", "5d", "-5m", "1.5h", "m", "5\u{e9}"] {
        refuses("is not a duration", |c| check(c, bad));
    }
}

#[test]
fn images_have_the_form_of_the_registry_protocol() {
    for good in ["registry.k8s.io", "localhost:5000", "r.example.net/a/b-c_d"] {
        accepts(|c| image_repository(c, "f", good));
    }
    for bad in [
        "",
        "https://r.example.net",
        "r.io/",
        "r.io/a:tag",
        "R.io",
        "r.io/a@sha256:0",
    ] {
        refuses("is not an image repository", |c| {
            image_repository(c, "f", bad)
        });
    }
    accepts(|c| image_tag(c, "f", "3.7.0-0"));
    for bad in ["", "-a", ".a", "a b", &"a".repeat(129)] {
        refuses("is not an image tag", |c| image_tag(c, "f", bad));
    }
}

#[test]
fn addresses_are_concrete() {
    accepts(|c| address(c, "f", "198.18.0.11"));
    for (bad, fragment) in [
        ("cp-1", "is not an IP address"),
        ("10.0.0.01", "is not an IP address"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("127.0.0.53", "loopback"),
        ("::1", "loopback"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("::ffff:10.0.0.1", "IPv4-mapped"),
        ("2001:db8::1", "not supported by this release"),
    ] {
        refuses(fragment, |c| address(c, "f", bad));
    }
}

#[test]
fn names_do_not_collide_with_other_secrets() {
    let check = |c: &mut Checker, name: &str| machine_name(c, "f", name);
    accepts(|c| check(c, "cp-1"));
    accepts(|c| check(c, "cp-1.rack-a.example.net"));
    refuses("another Secret", |c| check(c, "etcd"));
    refuses("another Secret", |c| check(c, "cp-1-certs"));
    refuses("DNS-1123", |c| check(c, "CP-1"));
    refuses("64 characters", |c| check(c, &"a".repeat(64)));
}

#[test]
fn messages_quote_and_cut_values() {
    assert_eq!(show("a\nb"), "\"a\\nb\"");
    assert_eq!(show(&"\u{e9}".repeat(200)).chars().count(), 80 + 5);
}

#[test]
fn debug_of_inputs_shows_no_content() {
    let file = crate::domain::UserFile {
        path: "/a".to_owned(),
        mode: 0o600,
        owner: "root:root".to_owned(),
        content: zeroize::Zeroizing::new(b"hunter2".to_vec()),
    };
    assert!(!format!("{file:?}").contains("hunter2"));
}
