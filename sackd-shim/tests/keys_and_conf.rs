//! Files that change under a running signer, and files that keep it from starting.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod running;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Ends a crowd, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A folder as Kubernetes mounts a Secret: the file is a link through `..data`, which is swapped.
struct Secret {
    folder: tempfile::TempDir,
    generation: usize,
}

impl Secret {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slurm.jwks");
        std::os::unix::fs::symlink("..data/slurm.jwks", path).unwrap();
        let mut secret = Self {
            folder,
            generation: 0,
        };
        secret.swap(text);
        secret
    }

    fn path(&self) -> String {
        let path = self.folder.path().join("slurm.jwks");
        path.to_str().unwrap().to_owned()
    }

    fn swap(&mut self, text: &str) {
        let at = |name: &str| self.folder.path().join(name);
        self.generation += 1;
        let name = format!("..{}", self.generation);
        fs::create_dir(at(&name)).unwrap();
        let path = at(&name).join("slurm.jwks");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        std::os::unix::fs::symlink(&name, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        if self.generation > 1 {
            fs::remove_dir_all(at(&format!("..{}", self.generation - 1))).unwrap();
        }
    }
}

/// A file slurm.jwks with keys a and b and these fields of theirs.
fn jwks(a: &str, b: &str) -> String {
    let key = |kid: &str, k: &str, more: &str| {
        format!(r#"{{"kid":"{kid}","alg":"HS256","kty":"oct","k":"{k}"{more}}}"#)
    };
    format!(
        r#"{{"keys":[{},{}]}}"#,
        key("a", "VGhlIGtleSBiZWxvdyBtZSBuZXZlciBsaWVz", a),
        key("b", "QW5vdGhlciBrZXkgb2YgdGhlIHNhbWUgbGVuZ3RoLi4", b)
    )
}

const DEFAULT: &str = r#","use":"default""#;
const CONF: &str = "ClusterName=lab\nAuthType=auth/slurm\n";

/// Each request of a crowd gets a token of a key that counts, and a good verdict on it, while the file is
/// swapped as Kubernetes does it, with a broken one in between.
#[test]
fn a_swapped_link_loses_no_request() {
    let mut secret = Secret::new(&jwks(DEFAULT, ""));
    let path = secret.path();
    let variables = [("SLURM_SACK_JWKS", path.as_str())];
    let limits = "[limits]\nrequests-per-second = 0\nsystem-requests-per-second = 0";
    let shim = Shim::start_in(CONF, limits, &variables);
    let both = slurm_auth::Keyring::from_jwks(jwks("", "").as_bytes()).unwrap();
    let is_over = AtomicBool::new(false);
    let ask_on = || {
        let mut asked = 0_u32;
        while !is_over.load(Ordering::Relaxed) {
            let token = shim.token(ANYBODY, b"").expect("a token");
            slurm_auth::verify(&token, &both, Verifier { uid: 0, now: now() }).unwrap();
            assert_eq!(shim.verify(&token), [0; 4]);
            asked += 1;
        }
        asked
    };
    std::thread::scope(|scope| {
        let over = Over(&is_over);
        let crowd: Vec<_> = (0..4).map(|_| scope.spawn(ask_on)).collect();
        for n in 1..30 {
            let (kid, set) = match n % 3 {
                0 => ("a", jwks(DEFAULT, "")),
                1 => ("b", jwks("", DEFAULT)),
                _ => ("b", "{\"keys\":".to_owned()),
            };
            let kid = format!("\"kid\":\"{kid}\"");
            let kept = || shim.log().matches("keys.kept").count();
            let before = kept();
            secret.swap(&set);
            wait_for("the key to be taken or not", || match n % 3 {
                2 => kept() > before,
                _ => header(&shim.token(ANYBODY, b"").unwrap()).contains(&kid),
            });
        }
        drop(over);
        for one in crowd {
            assert!(one.join().unwrap() > 0);
        }
    });
}

/// The same with a single slurm.key: tokens of the key before are good for their life.
#[test]
fn a_crowd_goes_on_while_slurm_key_is_replaced() {
    let limits = "[limits]\nrequests-per-second = 0\nsystem-requests-per-second = 0";
    let shim = Shim::start(CONF, limits);
    let is_over = AtomicBool::new(false);
    let ask_on = || {
        while !is_over.load(Ordering::Relaxed) {
            let token = shim.token(ANYBODY, b"").expect("a token");
            assert_eq!(shim.verify(&token), [0; 4]);
        }
    };
    std::thread::scope(|scope| {
        let over = Over(&is_over);
        let crowd: Vec<_> = (0..4).map(|_| scope.spawn(ask_on)).collect();
        for n in 0..10 {
            let key = if n % 2 == 0 { OTHER } else { KEY };
            shim.replace("slurm.key", key, 0o600);
            wait_for("the new key", || is_signed_with(&shim, key));
        }
        drop(over);
        crowd.into_iter().for_each(|one| one.join().unwrap());
    });
}

/// The header of a token, as JSON text.
fn header(token: &str) -> String {
    use base64::Engine as _;
    let part = token.split('.').next().unwrap();
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part);
    String::from_utf8(bytes.unwrap()).unwrap()
}

/// Nothing changes but the time: the default key ends, another one takes its place, and both is told.
#[test]
fn a_key_that_expires_is_told_of_and_gives_way() {
    let exp = now() + 4;
    let soon = format!(r#"{DEFAULT},"exp":{exp}"#);
    let secret = Secret::new(&jwks(&soon, ""));
    let path = secret.path();
    let start = |lifetime: &str| {
        let variables = [("SLURM_SACK_JWKS", path.as_str())];
        Shim::start_in(
            CONF,
            &format!("token-lifetime = \"{lifetime}\""),
            &variables,
        )
    };
    // Its tokens would outlive it, and another key's do not.
    let long = start("60s");
    assert!(header(&long.token(ANYBODY, b"").unwrap()).contains("\"kid\":\"b\""));
    wait_for("the record of the key that signed", || {
        let log = long.log();
        let made = log.lines().find(|line| line.contains("token.made"));
        made.is_some_and(|line| line.contains("kid=\"b\""))
    });
    let short = start("1s");
    let signs = |kid: &str| {
        let token = short.token(ANYBODY, b"").unwrap();
        header(&token).contains(&format!("\"kid\":\"{kid}\""))
    };
    assert!(signs("a"));
    wait_for("the warning", || {
        short.log().contains("the signing key expires in 0 minutes")
    });
    let expires =
        format!("sackd_shim_key_expires_timestamp_seconds{{cluster=\"lab\",kid=\"a\"}} {exp}");
    wait_for("the number", || short.http("/metrics").contains(&expires));
    wait_for("the other key", || signs("b"));
    assert!(now() >= exp - 1, "not before its time");
    wait_for("the warning", || {
        let words = "the default key has expired: key 'b' signs in its place";
        short.log().contains(words)
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
    let another = format!("{conf}SlurmUser=64998\n");
    let output = running::check(&another, more, |_| {});
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(said.contains("has SlurmUser=64998"), "{said}");
    let tls = format!("{conf}TLSType=tls/s2n\n");
    let output = running::check(&tls, more, |_| {});
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(78));
    assert!(said.contains("has TLSType=tls/s2n"), "{said}");
    let none = format!("{conf}TLSType=tls/none\n");
    let output = running::check(&none, more, |_| {});
    assert_eq!(output.status.code(), Some(0));
    let output = running::check(conf, more, |folder| {
        fs::remove_file(folder.join("slurm.conf")).unwrap();
        fs::set_permissions(folder.join("slurm.key"), fs::Permissions::from_mode(0o644)).unwrap();
    });
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(78));
    assert!(said.contains("slurm.conf' is missing"), "{said}");
    assert!(said.contains("may be read by others (mode 0644)"), "{said}");
}

/// Whatever is broken: what is wrong, what to do about it, and nothing else.
#[test]
fn check_says_what_to_do_about_each_problem() {
    let check = |more: &str, change: &dyn Fn(&Path), words: &str| {
        let output = running::check_json(CONF, more, change);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{words}: {said}");
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = value["findings"].as_array().unwrap();
        let bad = findings.iter().filter(|finding| finding["level"] != "ok");
        for finding in bad.clone() {
            assert!(finding["hint"].is_string(), "{finding}");
        }
        let problem = bad.clone().find(|finding| finding["level"] == "problem");
        let text = problem.unwrap()["text"].as_str().unwrap();
        assert!(text.contains(words), "{words}: {text}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors.lines().count(), 1, "{errors}");
    };
    let key = |folder: &Path| folder.join("slurm.key");
    let set = |text: String| {
        move |folder: &Path| {
            fs::write(folder.join("slurm.jwks"), &text).unwrap();
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(folder.join("slurm.jwks"), mode).unwrap();
            let config = fs::read_to_string(folder.join("config.toml")).unwrap();
            let config = config.replace("key-file", "jwks-file");
            let config = config.replace("slurm.key", "slurm.jwks");
            fs::write(folder.join("config.toml"), config).unwrap();
        }
    };
    check(
        "",
        &|folder| fs::remove_file(key(folder)).unwrap(),
        "No such file",
    );
    check(
        "",
        &|folder| {
            fs::remove_file(key(folder)).unwrap();
            std::os::unix::fs::symlink("nowhere", key(folder)).unwrap();
        },
        "No such file",
    );
    check(
        "",
        &|folder| {
            fs::remove_file(key(folder)).unwrap();
            nix::unistd::mkfifo(&key(folder), nix::sys::stat::Mode::S_IRUSR).unwrap();
        },
        "not a regular file",
    );
    check(
        "",
        &|folder| fs::write(key(folder), "").unwrap(),
        "is empty",
    );
    check(
        "",
        &|folder| fs::write(key(folder), [7; 64]).unwrap(),
        "fewer than 8 different bytes",
    );
    check(
        "",
        &|folder| fs::write(key(folder), vec![7; 2 << 20]).unwrap(),
        "larger than",
    );
    check("colour = 1", &|_| {}, "unknown field");
    check("", &set("{".to_owned()), "not a JSON object");
    check("", &set("{\"keys\":[]}".to_owned()), "has no keys");
    let twice = jwks("", "").replace("\"kid\":\"b\"", "\"kid\":\"a\"");
    check("", &set(twice), "have the id 'a'");
    let gone = format!(",\"exp\":{}", now() - 10);
    check("", &set(jwks(&gone, &gone)), "has expired");
    if nix::unistd::geteuid().is_root() {
        let as_another = |folder: &Path| {
            let config = fs::read_to_string(folder.join("config.toml")).unwrap();
            let config = config.replace("slurm-user = \"0\"", "slurm-user = \"64999\"");
            fs::write(folder.join("config.toml"), config).unwrap();
        };
        // The service could not read it, though root can.
        check("", &as_another, "Permission denied");
    }
}

/// An `Include` may lead to a fifo; tokens are made all the same.
#[test]
fn an_include_of_a_fifo_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let conf = format!(
        "Include {}\nClusterName=lab\nAuthInfo=ttl=33\n",
        fifo.display()
    );
    let shim = Shim::start(&conf, "");
    let claims = claims(&shim.token(ANYBODY, b"").unwrap(), KEY);
    assert_eq!(claims.exp - claims.iat, 33);
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
    assert_ne!(field("VmLck:"), "0", "the memory of the keys is locked");
    let limits = fs::read_to_string(format!("/proc/{}/limits", shim.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"));
    kill(Pid::from_raw(shim.pid()), Signal::SIGTERM).unwrap();
    wait_for("the end", || shim.log().contains("shim.ending"));
}
