//! Files that change under a running signer, and files that keep it from starting.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod running;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use running::{KEY, Shim, claims, keys, now, run_to_end, wait_for};
use slurm_auth::Verifier;
use slurm_wire::sack::ANYBODY;

const OTHER: &[u8] = b"the next key of the test, as long as the first";

fn is_signed_with(shim: &Shim, key: &[u8]) -> bool {
    let token = shim.token(ANYBODY, b"").unwrap();
    slurm_auth::verify(&token, &keys(key), Verifier { uid: 0, now: now() }).is_ok()
}

#[test]
fn keys_are_rotated_and_bad_ones_are_not_taken() {
    let shim = Shim::start("ClusterName=lab\nAuthType=auth/slurm\n", "");
    assert!(is_signed_with(&shim, KEY));
    shim.replace("slurm.key", OTHER, 0o600);
    wait_for("the new key", || is_signed_with(&shim, OTHER));
    shim.replace("slurm.key", KEY, 0o604);
    wait_for("the refusal", || {
        shim.log().contains("may be read by others")
    });
    assert!(is_signed_with(&shim, OTHER));
    shim.replace("slurm.key", b"", 0o600);
    kill(Pid::from_raw(shim.pid()), Signal::SIGHUP).unwrap();
    wait_for("the second refusal", || shim.log().contains("is empty"));
    assert!(is_signed_with(&shim, OTHER));
    fs::remove_file(shim.path("slurm.key")).unwrap();
    kill(Pid::from_raw(shim.pid()), Signal::SIGHUP).unwrap();
    wait_for("the third refusal", || shim.log().contains("No such file"));
    assert!(is_signed_with(&shim, OTHER));
    shim.replace("slurm.key", KEY, 0o600);
    kill(Pid::from_raw(shim.pid()), Signal::SIGHUP).unwrap();
    wait_for("the first key again", || is_signed_with(&shim, KEY));
}

/// Each request gets a token of a key that counts, while the file is swapped as Kubernetes does it.
#[test]
fn a_swapped_link_loses_no_request() {
    let set = |default: &str, other: &str| {
        let key = |kid: &str, more: &str| {
            let k = if kid == "a" {
                "VGhlIGtleSBiZWxvdyBtZSBuZXZlciBsaWVz"
            } else {
                "QW5vdGhlciBrZXkgb2YgdGhlIHNhbWUgbGVuZ3RoLi4"
            };
            format!(r#"{{"kid":"{kid}","alg":"HS256","kty":"oct","k":"{k}"{more}}}"#)
        };
        format!(
            r#"{{"keys":[{},{}]}}"#,
            key(other, ""),
            key(default, r#","use":"default""#)
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let generation = |name: &str, text: &str| {
        fs::create_dir(folder.path().join(name)).unwrap();
        let path = folder.path().join(name).join("slurm.jwks");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    };
    let point_at = |name: &str| {
        let fresh = folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(name, &fresh).unwrap();
        fs::rename(&fresh, folder.path().join("..data")).unwrap();
    };
    generation("..1", &set("a", "b"));
    point_at("..1");
    std::os::unix::fs::symlink("..data/slurm.jwks", folder.path().join("slurm.jwks")).unwrap();
    let path = folder.path().join("slurm.jwks");
    let variables = [("SLURM_SACK_JWKS", path.to_str().unwrap())];
    let shim = Shim::start_in("ClusterName=lab\nAuthType=auth/slurm\n", "", &variables);
    let both = slurm_auth::Keyring::from_jwks(set("a", "b").as_bytes()).unwrap();
    let one_token = || {
        let token = shim.token(ANYBODY, b"").expect("a token");
        slurm_auth::verify(&token, &both, Verifier { uid: 0, now: now() }).unwrap();
        assert_eq!(shim.verify(&token), [0; 4]);
    };
    for n in 2..30 {
        let (default, other) = if n % 2 == 0 { ("b", "a") } else { ("a", "b") };
        generation(&format!("..{n}"), &set(default, other));
        one_token();
        point_at(&format!("..{n}"));
        fs::remove_dir_all(folder.path().join(format!("..{}", n - 1))).unwrap();
        one_token();
    }
    let kid = format!("\"kid\":\"{}\"", "a");
    wait_for("the last key in the numbers", || {
        shim.http("/status").contains(&kid)
    });
}

#[test]
fn tokens_of_the_last_key_are_good_for_their_life() {
    let shim = Shim::start("ClusterName=lab\nAuthType=auth/slurm\n", "");
    let token = shim.token(ANYBODY, b"").unwrap();
    shim.replace("slurm.key", OTHER, 0o600);
    assert!(
        is_signed_with(&shim, OTHER),
        "the next token has the next key"
    );
    assert_eq!(shim.verify(&token), [0; 4]);
}

#[test]
fn slurm_conf_counts_from_the_next_token_on() {
    let conf = |info: &str| format!("ClusterName=lab\nAuthType=auth/slurm\nAuthInfo={info}\n");
    let shim = Shim::start(&conf("ttl=30"), "");
    let first = claims(&shim.token(ANYBODY, b"").unwrap(), KEY);
    assert_eq!((first.exp - first.iat, first.id), (30, None));
    shim.replace(
        "slurm.conf",
        conf("use_client_ids,ttl=123").as_bytes(),
        0o644,
    );
    let second = claims(&shim.token(ANYBODY, b"").unwrap(), KEY);
    assert_eq!(second.exp - second.iat, 123);
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap();
    let id = second.id.unwrap();
    assert_eq!(
        (id.name, id.shell),
        (own.name, own.shell.display().to_string())
    );
    assert!(id.groups.values().any(|gid| *gid == own.gid.as_raw()));
    // A file that is gone for a moment changes nothing.
    fs::remove_file(shim.path("slurm.conf")).unwrap();
    let third = claims(&shim.token(ANYBODY, b"").unwrap(), KEY);
    assert_eq!(third.exp - third.iat, 123);
}

#[test]
fn settings_of_ours_go_before_slurm_conf() {
    let conf = "ClusterName=lab\nAuthType=auth/slurm\nAuthInfo=use_client_ids,ttl=30\n";
    let more = "cluster = \"Mine\"\ntoken-lifetime = \"20s\"\nuse-client-ids = false";
    let shim = Shim::start(conf, more);
    let claims = claims(&shim.token(ANYBODY, b"").unwrap(), KEY);
    assert_eq!((claims.cluster.as_deref(), claims.id), (Some("mine"), None));
    assert_eq!(claims.exp - claims.iat, 20);
}

#[test]
fn what_keeps_it_from_starting() {
    let check = |more: &str, change: &dyn Fn(&Path), code: i32, words: &str| {
        let output = run_to_end("ClusterName=lab\n", more, change);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words}: {said}");
        assert!(said.contains(words), "{words}: {said}");
    };
    let mode = |name: &'static str, mode: u32| {
        move |folder: &Path| {
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    check(
        "colour = 1",
        &|_| {},
        78,
        "config.toml:5:1: unknown field `colour`",
    );
    check("port = \"x\"", &|_| {}, 78, "config.toml:5:8: invalid type");
    check(
        "",
        &mode("config.toml", 0o666),
        78,
        "may be written by group or others",
    );
    check("", &mode("slurm.key", 0o644), 78, "may be read by others");
    check(
        "",
        &|folder| fs::write(folder.join("slurm.key"), "").unwrap(),
        78,
        "is empty",
    );
    check(
        "",
        &|folder| fs::remove_file(folder.join("slurm.key")).unwrap(),
        78,
        "No such file",
    );
    if nix::unistd::geteuid().is_root() {
        let give_away = |folder: &Path| {
            std::os::unix::fs::chown(folder.join("run"), Some(12345), None).unwrap();
        };
        check("", &give_away, 77, "belongs to uid 12345");
    }
}

#[test]
fn check_prints_every_problem() {
    let (conf, more) = (
        "ClusterName=lab\nAuthType=auth/slurm\n",
        "refresh-interval = \"20s\"",
    );
    let output = running::check(conf, more, |_| {});
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(
        said.lines().filter(|line| line.starts_with("ok ")).count(),
        5,
        "{said}"
    );
    let output = running::check(
        conf,
        "refresh-interval = \"1s\"\nlimits = { connections = 1 }",
        |_| {},
    );
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        said.lines()
            .filter(|line| line.starts_with("problem "))
            .count(),
        2,
        "{said}"
    );
    let output = running::check(conf, more, |folder| {
        fs::remove_file(folder.join("slurm.conf")).unwrap();
        fs::set_permissions(folder.join("slurm.key"), fs::Permissions::from_mode(0o644)).unwrap();
    });
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(78));
    assert!(said.contains("slurm.conf' is missing"), "{said}");
    assert!(said.contains("may be read by others (mode 0644)"), "{said}");
}

#[test]
fn the_process_is_closed() {
    let shim = Shim::start("ClusterName=lab\nAuthType=auth/slurm\n", "");
    let status = fs::read_to_string(format!("/proc/{}/status", shim.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    wait_for("the filter", || {
        let status = fs::read_to_string(format!("/proc/{}/status", shim.pid())).unwrap();
        status.contains("Seccomp:\t2")
    });
    assert_eq!(field("NoNewPrivs:"), "1");
    let limits = fs::read_to_string(format!("/proc/{}/limits", shim.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"));
    kill(Pid::from_raw(shim.pid()), Signal::SIGTERM).unwrap();
    wait_for("the end", || shim.log().contains("shim.ending"));
}
