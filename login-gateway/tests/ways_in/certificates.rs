//! User certificates and revocation lists. What russh does not look at (T11, T12) is looked at here.

use std::fs;
use std::path::Path;

use crate::host::{Host, PAM, Said, possible, run};

const TRUSTED: &str = "trusted-user-ca-keys = [\"FOLDER/etc/gateway/ca.pub\"]";

/// Authorities: one that is trusted, one that is not.
fn authorities(folder: &Path) {
    for name in ["ca", "other"] {
        let path = folder.join("etc/gateway").join(name).display().to_string();
        run(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-f", &path],
        );
    }
}

/// A new key of alice's, signed with these options, and the login with it.
fn signed(host: &Host, authority: &str, options: &[&str]) -> Said {
    sign(host, "new", authority, options);
    host.login("alice").key("new").run()
}

fn sign(host: &Host, name: &str, authority: &str, options: &[&str]) {
    let key = format!("{}/.ssh/{name}", host.home("alice"));
    for file in [key.clone(), format!("{key}.pub"), format!("{key}-cert.pub")] {
        let _ = fs::remove_file(file);
    }
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    let authority = host
        .path("etc/gateway")
        .join(authority)
        .display()
        .to_string();
    let public = format!("{key}.pub");
    let all = [
        &["-q", "-s", &authority, "-I", "the id"][..],
        options,
        &[&public],
    ]
    .concat();
    run("ssh-keygen", &all);
}

#[test]
fn of_a_trusted_authority() {
    if !possible("certificates::of_a_trusted_authority", &[]) {
        return;
    }
    let host = Host::start(TRUSTED, PAM, authorities);
    let good = signed(&host, "ca", &["-n", "alice", "-z", "42"]);
    assert!(good.ok, "{good:?}");
    host.logged("certificate=\"the id\" serial=42 authority=\"SHA256:", 1);
    let refused = |authority: &str, options: &[&str], reason: &str| {
        let said = signed(&host, authority, options);
        assert!(!said.ok, "{options:?}: {said:?}");
        assert!(
            said.err.contains("Permission denied (publickey)"),
            "{said:?}"
        );
        host.logged(reason, 1);
    };
    refused("other", &["-n", "alice"], "no trusted authority");
    refused("ca", &["-n", "bob"], "no trusted authority");
    // One for everybody is for nobody. A host's certificate of the same authority (T12) is not sent
    // by this client; `monitor certificate::what_a_certificate_must_be` has that case.
    refused("ca", &[], "no trusted authority");
    refused(
        "ca",
        &["-n", "alice", "-O", "source-address=10.0.0.0/8"],
        "is not for '127.0.0.1'",
    );
    refused(
        "ca",
        &["-n", "alice", "-O", "critical:colour=red"],
        "critical option 'colour'",
    );
    refused(
        "ca",
        &["-n", "alice", "-O", "verify-required"],
        "verify-required cannot be checked",
    );
    let expired = signed(&host, "ca", &["-n", "alice", "-V", "20200101:20200201"]);
    assert!(!expired.ok, "{expired:?}");
    let here = signed(
        &host,
        "ca",
        &["-n", "x,alice", "-O", "source-address=127.0.0.0/8"],
    );
    assert!(here.ok, "{here:?}");
    let options = ["-n", "alice", "-O", "force-command=echo forced"];
    let forced = signed(&host, "ca", &options);
    assert!(forced.ok && forced.out == "forced\n", "{forced:?}");
    // The bare key is offered first, answered, and then good for nothing (T11).
    let key = host.path("home/alice/.ssh/new");
    fs::remove_file(key.with_file_name("new-cert.pub")).unwrap();
    let bare = host.login("alice").key("new").run();
    assert!(!bare.ok, "{bare:?}");
    // A name that nobody has hears the same as one that is known.
    sign(&host, "new", "ca", &["-n", "nosuchuser"]);
    let unknown = host.login("nosuchuser").key("home/alice/.ssh/new").run();
    let wrong = host.login("bob").key("home/alice/.ssh/new").run();
    assert_eq!(unknown.err.replace("nosuchuser", "bob"), wrong.err);
}

#[test]
fn names_by_policy_and_by_file() {
    if !possible("certificates::names_by_policy_and_by_file", &[]) {
        return;
    }
    let more = format!(
        "{TRUSTED}\nprincipals = [\"login-%u\"]\nauthorized-principals-files = [\".ssh/principals\"]"
    );
    let host = Host::start(&more, PAM, authorities);
    assert!(signed(&host, "ca", &["-n", "login-alice"]).ok);
    assert!(!signed(&host, "ca", &["-n", "alice"]).ok);
    host.give(
        "alice",
        ".ssh/principals",
        "# names\nfrom=\"192.0.2.1\" far\nno-pty ops\n",
    );
    assert!(signed(&host, "ca", &["-n", "ops"]).ok);
    assert!(!signed(&host, "ca", &["-n", "far"]).ok);
    assert!(!signed(&host, "other", &["-n", "ops"]).ok);
}

#[test]
fn of_an_authority_that_the_user_trusts() {
    if !possible("certificates::of_an_authority_that_the_user_trusts", &[]) {
        return;
    }
    let host = Host::start("", PAM, authorities);
    let other = fs::read_to_string(host.path("etc/gateway/other.pub")).unwrap();
    assert!(!signed(&host, "other", &["-n", "alice"]).ok);
    host.give(
        "alice",
        ".ssh/authorized_keys",
        &format!("cert-authority {other}"),
    );
    assert!(signed(&host, "other", &["-n", "alice"]).ok);
    assert!(!signed(&host, "other", &["-n", "staff"]).ok);
    assert!(!signed(&host, "ca", &["-n", "alice"]).ok);
    let line = format!("cert-authority,principals=\"staff,ops\" {other}");
    host.give("alice", ".ssh/authorized_keys", &line);
    assert!(signed(&host, "other", &["-n", "staff"]).ok);
    assert!(!signed(&host, "other", &["-n", "alice"]).ok);
}

#[test]
fn revoked_ones() {
    if !possible("certificates::revoked_ones", &[]) {
        return;
    }
    let more = format!("{TRUSTED}\nrevoked-keys = [\"FOLDER/etc/gateway/revoked\"]");
    let host = Host::start(&more, PAM, |folder| {
        authorities(folder);
        fs::write(folder.join("etc/gateway/revoked"), "").unwrap();
    });
    let list = host.path("etc/gateway/revoked");
    fs::remove_file(&list).unwrap();
    let name = list.display().to_string();
    let ca = host.path("etc/gateway/ca.pub").display().to_string();
    let krl = |specification: &str| {
        let file = host.path("specification");
        fs::write(&file, specification).unwrap();
        let file = file.display().to_string();
        run("ssh-keygen", &["-q", "-k", "-f", &name, "-s", &ca, &file]);
    };
    // While the list is not there nobody has a good key; a gateway would not even start.
    let absent = host.login("alice").key("id").run();
    assert!(!absent.ok, "{absent:?}");
    host.logged("revoked_keys.unusable", 1);
    fs::write(&list, "").unwrap();
    assert!(host.login("alice").key("id").run().ok);
    sign(&host, "new", "ca", &["-n", "alice", "-z", "7"]);
    let certificate = || host.login("alice").key("new").run();
    assert!(certificate().ok);
    krl("serial: 1-6\nserial: 8\n");
    assert!(certificate().ok);
    krl("serial: 7\n");
    assert!(!certificate().ok);
    host.logged("revoked by", 1);
    krl("id: the id\n");
    assert!(!certificate().ok);
    let hash = |path: &str| {
        let line = run("ssh-keygen", &["-lf", path]);
        line.split(' ').nth(1).unwrap().to_owned()
    };
    let public = format!("{}/.ssh/id.pub", host.home("alice"));
    krl(&format!("hash: {}\n", hash(&public)));
    assert!(certificate().ok && !host.login("alice").key("id").run().ok);
    assert!(host.login("alice").key("id2").run().ok);
    // Plain lists, of a key and of an authority.
    fs::write(&list, format!("# gone\n{}", host.public("alice", "id"))).unwrap();
    assert!(!host.login("alice").key("id").run().ok && certificate().ok);
    fs::copy(&ca, &list).unwrap();
    assert!(!certificate().ok && host.login("alice").key("id").run().ok);
    // Damaged lists, and one that others may write, are as good as none.
    for damaged in ["garbage\n", "SSHKRL\n\0\0\0\0\u{1}"] {
        fs::write(&list, damaged).unwrap();
        assert!(!host.login("alice").key("id").run().ok, "{damaged:?}");
    }
    fs::write(&list, "").unwrap();
    run("chmod", &["666", &name]);
    assert!(!host.login("alice").key("id").run().ok);
}
