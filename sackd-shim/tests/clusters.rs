//! Several clusters in one process: each its own socket, key and rules.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod running;

use std::fs;
use std::os::unix::fs::PermissionsExt;

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
        &format!("port = 7\n{two}conf = \"/c\"\nkey-file = \"/k\"\nport = 7"),
        "two clusters take pushes at port 7",
    );
    check(&format!("{two}colour = 1"), "unknown field `colour`");
}
