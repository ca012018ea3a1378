//! Several clusters in one process: each its own socket, key and rules.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod running;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use running::{KEY, Shim, keys, now, run_to_end, token_at, wait_for};
use slurm_auth::Verifier;
use slurm_wire::sack::ANYBODY;

const OTHER: &[u8] = b"the key of the other cluster, long enough";
const CONF: &str = "ClusterName=lab\nAuthType=auth/slurm\n";

#[test]
fn each_has_its_own_key_socket_and_rules() {
    let outside = tempfile::tempdir().unwrap();
    let at = outside.path().display();
    let file = |name: &str, content: &[u8]| {
        let path = outside.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    file("key", OTHER);
    file(
        "slurm.conf",
        b"ClusterName=Two\nAuthType=auth/slurm\nAuthInfo=ttl=20\n",
    );
    let more = format!(
        "[[clusters]]\nname = \"two\"\nkey-file = \"{at}/key\"\nconf = \"{at}/slurm.conf\"\n\
         run-dir = \"{at}/run\"\n"
    );
    let shim = Shim::start(CONF, &more);
    wait_for("the second socket", || {
        outside.path().join("run/sack.socket").exists()
    });
    let reader = Verifier { uid: 0, now: now() };
    let token = token_at(&outside.path().join("run/sack.socket"), ANYBODY).unwrap();
    let claims = slurm_auth::verify(&token, &keys(OTHER), reader).unwrap();
    assert_eq!(claims.cluster.as_deref(), Some("two"));
    assert_eq!(claims.exp - claims.iat, 20);
    let token = shim.token(ANYBODY, b"").unwrap();
    let claims = slurm_auth::verify(&token, &keys(KEY), reader).unwrap();
    assert_eq!(claims.cluster.as_deref(), Some("lab"));
    // A verdict is by the key of the socket that was asked.
    assert_eq!(shim.verify(&token), [0; 4]);
    let foreign = token_at(&outside.path().join("run/sack.socket"), ANYBODY).unwrap();
    assert_eq!(shim.verify(&foreign), [0xff; 4]);
    let text = shim.http("/metrics");
    for cluster in ["lab", "two"] {
        let line =
            format!("sackd_shim_tokens_made_total{{cluster=\"{cluster}\",class=\"system\"}}");
        assert!(text.contains(&line), "{line}\n{text}");
    }
    // The key of one is replaced, the other goes on.
    let third = b"the third key of this test, long enough!";
    file("fresh", third);
    fs::rename(outside.path().join("fresh"), outside.path().join("key")).unwrap();
    wait_for("the new key", || {
        let token = token_at(&outside.path().join("run/sack.socket"), ANYBODY).unwrap();
        slurm_auth::verify(&token, &keys(third), reader).is_ok()
    });
    assert!(slurm_auth::verify(&shim.token(ANYBODY, b"").unwrap(), &keys(KEY), reader).is_ok());
}

/// A cluster whose key is not there yet, or bad, keeps nobody from the tokens of the other, and is served as
/// soon as its key is good.
#[test]
fn one_without_a_key_does_not_stop_the_other() {
    let outside = tempfile::tempdir().unwrap();
    let at = outside.path().display();
    let more = format!(
        "[[clusters]]\nname = \"two\"\nkey-file = \"{at}/key\"\nconf = \"{at}/slurm.conf\"\n\
         run-dir = \"{at}/run\"\n"
    );
    let shim = Shim::start(CONF, &more);
    let second = outside.path().join("run/sack.socket");
    assert!(shim.token(ANYBODY, b"").is_some());
    assert_eq!(token_at(&second, ANYBODY), None);
    wait_for("the line", || shim.log().contains("keys.none"));
    wait_for("the record", || {
        shim.log().contains("there is no good key yet")
    });
    let status = running::status_at(&shim.path("run/status.socket"));
    assert_eq!(status["clusters"][1]["key_file_bad"], true);
    assert_eq!(status["clusters"][1]["keys"], 0);
    let output = shim.run(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().find(|line| line.starts_with("problem"));
    assert!(line.unwrap().contains("cluster 'two': "), "{said}");
    let key = outside.path().join("key");
    fs::write(&key, "short").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    wait_for("the next line", || shim.log().contains("fewer than 16"));
    assert_eq!(token_at(&second, ANYBODY), None);
    fs::write(&key, OTHER).unwrap();
    wait_for("its tokens", || token_at(&second, ANYBODY).is_some());
    let token = token_at(&second, ANYBODY).unwrap();
    let reader = Verifier { uid: 0, now: now() };
    slurm_auth::verify(&token, &keys(OTHER), reader).unwrap();
    // Without any good key there is nothing to serve.
    let output = run_to_end(CONF, &more, |folder| {
        fs::remove_file(&key).unwrap();
        fs::remove_file(folder.join("slurm.key")).unwrap();
    });
    assert_eq!(output.status.code(), Some(78));
}

/// Each cluster's configuration is kept by a process of its own, from its own controllers.
#[test]
fn each_has_its_own_configuration_process() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_sackd-shim"));
    if !program.with_file_name("sackd-shim-config").exists() {
        println!(
            "skipped: each_has_its_own_configuration_process: 'sackd-shim-config' is not built"
        );
        return;
    }
    // Nobody listens at these; what each process says of that tells them apart.
    let (one, two) = ("127.0.0.1:1", "127.0.0.2:1");
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let key = folder.path().join("key");
    fs::write(&key, OTHER).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    for run in ["run", "two"] {
        fs::create_dir(folder.path().join(run)).unwrap();
    }
    let config = format!(
        "key-file = \"{at}/key\"\nrun-dir = \"{at}/run\"\nslurm-user = \"{}\"\n\
         conf-server = [\"{one}\"]\nport = 16818\n[[clusters]]\nname = \"two\"\n\
         key-file = \"{at}/key\"\nconf-server = [\"{two}\"]\nrun-dir = \"{at}/two\"\nport = 16819\n",
        nix::unistd::geteuid()
    );
    let file = folder.path().join("config.toml");
    fs::write(&file, config).unwrap();
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let mut child = std::process::Command::new(program)
        .env_clear()
        .arg("--config")
        .arg(file)
        .stderr(log)
        .spawn()
        .unwrap();
    let error = |run: &str| {
        let text = fs::read(folder.path().join(run).join(".config-status.json")).ok()?;
        let report: serde_json::Value = serde_json::from_slice(&text).ok()?;
        Some(report["last_error"].as_str()?.to_owned())
    };
    let done = std::panic::catch_unwind(|| {
        for (run, server) in [("run", one), ("two", two)] {
            wait_for(run, || {
                error(run).is_some_and(|error| error.contains(server))
            });
            // And tokens are made meanwhile.
            let socket = folder.path().join(run).join("sack.socket");
            assert!(token_at(&socket, ANYBODY).is_some());
        }
    });
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let children = fs::read_to_string(children).unwrap();
    let children: Vec<&str> = children.split_whitespace().collect();
    // One that is killed is told of where a supervisor asks; tokens go on.
    let lost = std::panic::catch_unwind(|| {
        let ask = |command: &str| {
            let config = folder.path().join("config.toml");
            let mut asked = std::process::Command::new(program);
            asked.env_clear().arg("--config").arg(config).arg(command);
            let output = asked.output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            (output.status.code(), String::from_utf8(said).unwrap())
        };
        assert_eq!(ask("status").0, Some(0));
        let pid = Pid::from_raw(children[1].parse().unwrap());
        kill(pid, Signal::SIGKILL).unwrap();
        let words =
            "cluster 'two': sackd-shim-config has ended, the configuration is no longer kept";
        wait_for("the note", || ask("status").1.contains(words));
        assert_eq!(ask("status").0, Some(1));
        assert!(ask("check").1.contains(words));
        let log = fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(
            log.contains("config.ended") && log.contains("cluster=\"two\""),
            "{log}"
        );
        for run in ["run", "two"] {
            let socket = folder.path().join(run).join("sack.socket");
            assert!(token_at(&socket, ANYBODY).is_some());
        }
    });
    let _ = child.kill();
    let _ = child.wait();
    done.unwrap();
    lost.unwrap();
    // They end with the signer, even if it is killed.
    assert_eq!(children.len(), 2);
    for pid in children {
        let line = format!("/proc/{pid}/cmdline");
        wait_for("their end", || {
            fs::read(&line).unwrap_or_default().is_empty()
        });
    }
}

#[test]
fn what_is_refused() {
    let check = |more: &str, words: &str| {
        let output = run_to_end(CONF, more, |_| {});
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{words}: {said}");
        assert!(said.contains(words), "{words}: {said}");
    };
    let two = "[[clusters]]\nname = \"two\"\n";
    check("[[clusters]]\n", "each has a 'name'");
    check("[[clusters]]\nname = \"../x\"", "each has a 'name'");
    check(two, "needs 'conf-server' or 'conf'");
    check(
        &format!("{two}conf = \"/c\""),
        "needs 'key-file' or 'jwks-file'",
    );
    check(
        &format!("{two}conf = \"/c\"\nkey-file = \"/k\"\nrun-dir = \"@/run\""),
        "two clusters have the run directory",
    );
    check(
        &format!("cluster = \"Two\"\n{two}conf = \"/c\"\nkey-file = \"/k\""),
        "two clusters have the name 'two'",
    );
    check(
        &format!("port = 7\n{two}conf = \"/c\"\nkey-file = \"/k\"\nport = 7"),
        "two clusters take pushes at port 7",
    );
    check(&format!("{two}colour = 1"), "unknown field `colour`");
}
