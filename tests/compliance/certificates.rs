//! User certificates: what they must say, what they give and take away, how they are revoked.

use std::process::Command;

use tests::{Done, Server, User};

use crate::both::{Config, PLAIN, case, host};

const CA: Config = Config {
    theirs: "TrustedUserCAKeys {}/user_ca.pub\n",
    ours: "trusted-user-ca-keys = [\"{}/user_ca.pub\"]\n",
    ..PLAIN
};
const PRINCIPALS: Config = Config {
    theirs: "TrustedUserCAKeys {}/user_ca.pub\nAuthorizedPrincipalsFile %h/.ssh/principals\n",
    ours: "trusted-user-ca-keys = [\"{}/user_ca.pub\"]\nprincipals = []\nauthorized-principals-files = [\".ssh/principals\"]\n",
    ..PLAIN
};
const REVOKED: Config = Config {
    theirs: "TrustedUserCAKeys {}/user_ca.pub\nRevokedKeys {}/revoked\n",
    ours: "trusted-user-ca-keys = [\"{}/user_ca.pub\"]\nrevoked-keys = [\"{}/revoked\"]\n",
    ..PLAIN
};
const REVOKED_LIST: Config = Config {
    theirs: "TrustedUserCAKeys {}/user_ca.pub\nRevokedKeys {}/revoked.txt\n",
    ours: "trusted-user-ca-keys = [\"{}/user_ca.pub\"]\nrevoked-keys = [\"{}/revoked.txt\"]\n",
    ..PLAIN
};
const REVOKED_MISSING: Config = Config {
    theirs: "RevokedKeys {}/revoked.missing\n",
    ours: "revoked-keys = [\"{}/revoked.missing\"]\n",
    ..PLAIN
};

/// A user whose key is in no file, with a certificate made with these options.
fn certified(ca: &str, options: &[&str]) -> User {
    let user = host().user();
    user.put(".ssh/authorized_keys", "");
    sign(&user, ca, options);
    user
}

fn sign(user: &User, ca: &str, options: &[&str]) {
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-I", &format!("id of {}", user.name), "-s"])
        .arg(host().folder().join(ca));
    if !options.contains(&"-n") && !options.contains(&"nobody's") {
        sign.args(["-n", &user.name]);
    }
    sign.args(options.iter().filter(|o| **o != "nobody's"));
    tests::run(sign.arg(format!("{}.pub", user.key.display()))).ok();
}

fn says(server: &Server, user: &User, command: &str) -> Done {
    let certificate = format!("CertificateFile={}-cert.pub", user.key.display());
    tests::run(server.ssh(user, &["-o", &certificate]).arg(command))
}

/// Of a login with a certificate that was made with these options.
fn code(server: &Server, options: &[&str]) -> i32 {
    says(server, &certified("user_ca", options), "true").code
}

case!(of_the_authority, CA, |server| {
    assert_eq!(
        says(server, &certified("user_ca", &[]), "echo in").ok(),
        "in"
    );
    assert_eq!(
        says(server, &certified("other_ca", &[]), "echo in").code,
        255
    );
});

case!(kinds_of_keys, CA, |server| {
    for kind in ["ecdsa", "rsa"] {
        let mut ann = host().user();
        ann.key = host().keygen(&format!("{}.{kind}", ann.name), &["-t", kind]);
        ann.put(".ssh/authorized_keys", "");
        sign(&ann, "user_ca", &[]);
        assert_eq!(says(server, &ann, "echo in").ok(), "in", "{kind}");
    }
});

case!(principals, CA, |server| {
    assert_eq!(code(server, &["-n", "somebody-else"]), 255);
    assert_eq!(code(server, &["nobody's"]), 255);
    let ann = certified("user_ca", &[]);
    sign(&ann, "user_ca", &["-n", &format!("x,{},y", ann.name)]);
    assert_eq!(says(server, &ann, "true").code, 0);
});

case!(principals_of_a_file, PRINCIPALS, |server| {
    let ann = certified("user_ca", &["-n", "team-a,team-b"]);
    assert_eq!(says(server, &ann, "true").code, 255);
    ann.put(".ssh/principals", "# teams\nteam-x\n\nteam-b\n");
    assert_eq!(says(server, &ann, "echo in").ok(), "in");
    ann.put(".ssh/principals", "command=\"echo forced\" team-a\n");
    assert_eq!(says(server, &ann, "echo in").ok(), "forced");
    ann.put(".ssh/principals", "team-c\n");
    assert_eq!(says(server, &ann, "true").code, 255);
});

case!(times, CA, |server| {
    assert_eq!(code(server, &["-V", "20200101:20200102"]), 255);
    assert_eq!(code(server, &["-V", "20990101:20990102"]), 255);
    assert_eq!(code(server, &["-V", "-1d:+1d"]), 0);
});

case!(a_host_certificate_is_none, CA, |server| {
    assert_eq!(code(server, &["-h"]), 255);
});

case!(a_command_in_it, CA, |server| {
    let ann = certified(
        "user_ca",
        &["-O", "force-command=echo forced: $SSH_ORIGINAL_COMMAND"],
    );
    assert_eq!(says(server, &ann, "id").ok(), "forced: id");
});

case!(addresses_in_it, CA, |server| {
    assert_eq!(code(server, &["-O", "source-address=10.0.0.0/8"]), 255);
    assert_eq!(
        code(server, &["-O", "source-address=127.0.0.0/8,10.0.0.0/8"]),
        0
    );
});

case!(options_that_nobody_knows, CA, |server| {
    assert_eq!(code(server, &["-O", "critical:unheard@example.org=x"]), 255);
    assert_eq!(code(server, &["-O", "extension:unheard@example.org=x"]), 0);
});

case!(what_it_does_not_permit, CA, |server| {
    let ann = certified("user_ca", &["-O", "clear"]);
    let certificate = format!("CertificateFile={}-cert.pub", ann.key.display());
    let there = crate::peers::echo().to_string();
    let done = tests::run_with(
        &mut server.ssh(&ann, &["-o", &certificate, "-W", &there]),
        b"word",
        tests::SOON,
    );
    assert_eq!(done.code, 255, "{done:#?}");
    let done = tests::run(server.ssh(&ann, &["-o", &certificate, "-tt"]).arg("tty"));
    assert!(!done.out.contains("/dev/pts"), "{done:#?}");
    assert_eq!(says(server, &ann, "echo fine").ok(), "fine");
    let ann = certified("user_ca", &["-O", "clear", "-O", "permit-port-forwarding"]);
    let certificate = format!("CertificateFile={}-cert.pub", ann.key.display());
    let done = tests::run_with(
        &mut server.ssh(&ann, &["-o", &certificate, "-W", &there]),
        b"word",
        tests::SOON,
    );
    assert_eq!(done.ok(), "word");
});

case!(an_authority_of_the_user, |server| {
    let ann = certified("other_ca", &[]);
    let ca = std::fs::read_to_string(host().folder().join("other_ca.pub")).unwrap();
    ann.put(".ssh/authorized_keys", format!("cert-authority {ca}"));
    assert_eq!(says(server, &ann, "echo in").ok(), "in");
    ann.put(
        ".ssh/authorized_keys",
        format!("cert-authority,principals=\"team-a\" {ca}"),
    );
    assert_eq!(says(server, &ann, "true").code, 255);
    sign(&ann, "other_ca", &["-n", "team-a"]);
    assert_eq!(says(server, &ann, "echo in").ok(), "in");
    // The authority's own key does not log in.
    let mut authority = ann.clone();
    authority.key = host().folder().join("other_ca");
    assert_eq!(
        tests::run(server.ssh(&authority, &[]).arg("true")).code,
        255
    );
});

case!(revoked_by_a_list, REVOKED, |server| {
    let (by_serial, by_id, by_key, fine) = (
        certified("user_ca", &["-z", "77"]),
        certified("user_ca", &[]),
        certified("user_ca", &["-z", "79"]),
        certified("user_ca", &["-z", "80"]),
    );
    let folder = host().folder();
    let text = format!("serial: 70-78\nid: id of {}\n", by_id.name);
    std::fs::write(folder.join("revocations"), text).unwrap();
    let mut krl = Command::new("ssh-keygen");
    krl.args(["-q", "-k", "-f"])
        .arg(folder.join("revoked.new"))
        .arg("-s")
        .arg(folder.join("user_ca.pub"));
    tests::run(
        krl.arg(folder.join("revocations"))
            .arg(format!("{}.pub", by_key.key.display())),
    )
    .ok();
    std::fs::rename(folder.join("revoked.new"), folder.join("revoked")).unwrap();
    assert_eq!(says(server, &fine, "echo in").ok(), "in");
    for user in [by_serial, by_id, by_key] {
        assert_eq!(says(server, &user, "true").code, 255, "{}", user.name);
    }
});

case!(revoked_by_a_list_of_keys, REVOKED_LIST, |server| {
    let (revoked, fine, certificate) = (host().user(), host().user(), certified("user_ca", &[]));
    std::fs::write(
        host().folder().join("revoked.txt"),
        revoked.public_key() + &certificate.public_key(),
    )
    .unwrap();
    assert_eq!(server.says(&fine, "echo in").ok(), "in");
    assert_eq!(server.says(&revoked, "true").code, 255);
    assert_eq!(says(server, &certificate, "true").code, 255);
});

case!(
    a_list_that_cannot_be_read_revokes_all,
    REVOKED_MISSING,
    |server| {
        let (ann, list) = (host().user(), host().folder().join("revoked.missing"));
        assert_eq!(server.says(&ann, "true").code, 0);
        std::fs::remove_file(&list).unwrap();
        let code = server.says(&ann, "true").code;
        // No server starts without it.
        std::fs::write(&list, "").unwrap();
        assert_eq!(code, 255);
    }
);
