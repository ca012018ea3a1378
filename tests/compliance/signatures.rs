//! Which signatures are taken: every kind of key that `ssh-keygen` makes, plain, in a certificate and
//! as an authority, under each preset. OpenSSH's own device stands for hardware keys.

use std::path::Path;
use std::process::Command;

use tests::{Server, User, Whose};

use crate::both::{Config, PLAIN, case, host, same};

const MODERN: Config = Config {
    theirs: "RequiredRSASize 3072\nTrustedUserCAKeys {}/authorities\n",
    ours: "crypto-policy = \"modern\"\ntrusted-user-ca-keys = [\"{}/authorities\"]\n",
    ..PLAIN
};
const COMPATIBLE: Config = Config {
    theirs: "RequiredRSASize 2048\nTrustedUserCAKeys {}/authorities\nPidFile none\n",
    ours: "crypto-policy = \"compatible\"\ntrusted-user-ca-keys = [\"{}/authorities\"]\n",
    ..PLAIN
};
const FIPS: Config = Config {
    theirs: "RequiredRSASize 2048\nTrustedUserCAKeys {}/authorities\nPrintMotd no\n",
    ours: "crypto-policy = \"fips-140-3\"\ntrusted-user-ca-keys = [\"{}/authorities\"]\n",
    ..PLAIN
};
const CHOSEN: Config = Config {
    theirs: "RequiredRSASize 3072\nTrustedUserCAKeys {}/authorities\n\
             PubkeyAcceptedAlgorithms ecdsa-sha2-*,rsa-sha2-256,sk-ssh-ed25519-cert-v01@openssh.com\n\
             CASignatureAlgorithms ecdsa-*,rsa-sha2-512\n",
    ours: "trusted-user-ca-keys = [\"{}/authorities\"]\n\
           public-key-algorithms = [\"ecdsa-sha2-*\", \"rsa-sha2-256\", \"sk-ssh-ed25519-cert-v01@openssh.com\"]\n\
           ca-signature-algorithms = [\"ecdsa-*\", \"rsa-sha2-512\"]\n",
    ..PLAIN
};

/// A kind of key: its name here, options of ssh-keygen, the signature that the client is held to.
const KINDS: [(&str, &[&str], &str); 10] = [
    ("ed25519", &["-t", "ed25519"], "ssh-ed25519"),
    ("p256", &["-t", "ecdsa", "-b", "256"], "ecdsa-sha2-nistp256"),
    ("p384", &["-t", "ecdsa", "-b", "384"], "ecdsa-sha2-nistp384"),
    ("p521", &["-t", "ecdsa", "-b", "521"], "ecdsa-sha2-nistp521"),
    ("rsa1024", &["-t", "rsa", "-b", "1024"], "rsa-sha2-512"),
    ("rsa2048", &["-t", "rsa", "-b", "2048"], "rsa-sha2-512"),
    ("rsa3072", &["-t", "rsa", "-b", "3072"], "rsa-sha2-512"),
    ("rsa3072", &["-t", "rsa", "-b", "3072"], "rsa-sha2-256"),
    ("rsa3072", &["-t", "rsa", "-b", "3072"], "ssh-rsa"),
    ("sk", &["-t", "ed25519-sk"], "sk-ssh-ed25519@openssh.com"),
];
const SK_ECDSA: (&str, &[&str], &str) = (
    "skp256",
    &["-t", "ecdsa-sk"],
    "sk-ecdsa-sha2-nistp256@openssh.com",
);

/// Stands for hardware, in the package openssh-tests.
const DEVICE: &str = "/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so";

fn keygen(name: &str, options: &[&str]) -> std::path::PathBuf {
    let path = host().folder().join(name);
    if !path.exists() {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-N", "", "-C", name]).args(options);
        tests::run(keygen.arg("-f").arg(&path).env("SSH_SK_PROVIDER", DEVICE)).ok();
    }
    path
}

/// Has an authority sign a key, with an algorithm that is not its usual one if it is named.
fn sign(user: &User, authority: &Path, algorithm: &str) {
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-I", "x", "-n", &user.name, "-s"])
        .arg(authority);
    if algorithm.contains("rsa") {
        sign.args(["-t", algorithm]);
    }
    sign.arg(format!("{}.pub", user.key.display()));
    tests::run(sign.env("SSH_SK_PROVIDER", DEVICE)).ok();
}

fn gets_in(server: &Server, user: &User, signature: &str, certified: bool) -> bool {
    let plain = signature.strip_suffix("@openssh.com").unwrap_or(signature);
    // The client uses no certificate of a key whose own name it may not use.
    let names = match certified {
        true => format!("{plain}-cert-v01@openssh.com,{signature}"),
        false => signature.to_owned(),
    };
    let lines = match certified {
        true => String::new(),
        false => user.public_key(),
    };
    user.put(".ssh/authorized_keys", lines);
    let mut options = vec![
        "KexAlgorithms=ecdh-sha2-nistp256,curve25519-sha256".to_owned(),
        format!("PubkeyAcceptedAlgorithms={names}"),
        format!("SecurityKeyProvider={DEVICE}"),
        "CASignatureAlgorithms=+ssh-rsa".to_owned(),
        "RequiredRSASize=1024".to_owned(),
    ];
    if certified {
        options.push(format!("CertificateFile={}-cert.pub", user.key.display()));
    }
    let options: Vec<&str> = options.iter().flat_map(|o| ["-o", o]).collect();
    let done = tests::run(server.ssh(user, &options).arg("echo in"));
    assert!(done.code == 255 || done.out == "in\n", "{names}: {done:#?}");
    done.code == 0
}

/// What gets in, line by line.
fn shown(server: &Server) -> String {
    // Keys, certificates and the list of authorities are files that all cases share.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut user = host().user();
    let mut kinds = KINDS.to_vec();
    kinds.push(SK_ECDSA);
    let authorities = host().folder().join("authorities");
    if !Path::new(DEVICE).exists() {
        println!("skipped: hardware keys need {DEVICE} (package openssh-tests)");
        kinds.retain(|(name, ..)| !name.starts_with("sk"));
    }
    let key =
        |(name, options, _): &(&str, &[&str], &str)| keygen(&format!("signer.{name}"), options);
    let keys: Vec<_> = kinds.iter().map(key).collect();
    let public = |key: &std::path::PathBuf| {
        std::fs::read_to_string(format!("{}.pub", key.display())).unwrap()
    };
    let all: String = keys.iter().map(public).collect();
    std::fs::write(&authorities, &all).unwrap();
    let mut text = String::new();
    let mut note = |what: String, good: bool| {
        text += &format!("{what}: {}\n", if good { "in" } else { "refused" });
    };
    let good = &keys[1];
    for (key, (name, _, signature)) in keys.iter().zip(&kinds) {
        user.key = key.clone();
        note(
            format!("{name} by {signature}"),
            gets_in(server, &user, signature, false),
        );
        sign(&user, good, "");
        note(
            format!("{name} in a certificate by {signature}"),
            gets_in(server, &user, signature, true),
        );
    }
    // sshd takes authorities of any length.
    let short = |name: &str| ["rsa1024", "rsa2048"].contains(&name);
    for (key, (name, _, signature)) in keys.iter().zip(&kinds).filter(|(_, kind)| !short(kind.0)) {
        user.key = good.clone();
        sign(&user, key, signature);
        note(
            format!("authority {name} by {signature}"),
            gets_in(server, &user, kinds[1].2, true),
        );
    }
    text
}

fn same_as_theirs(server: &Server, refused: &[&str]) {
    let text = shown(server);
    let lines = text.lines().filter(|line| line.ends_with(": refused"));
    let lines: Vec<&str> = lines
        .map(|line| line.trim_end_matches(": refused"))
        .collect();
    assert_eq!(lines, refused, "{text}");
    same(server, "signatures", text);
    if server.whose == Whose::Ours {
        server.logged("RSA key of 1024 bits is too short");
    }
}

case!(modern, MODERN, |server| {
    same_as_theirs(
        server,
        &[
            "rsa1024 by rsa-sha2-512",
            "rsa1024 in a certificate by rsa-sha2-512",
            "rsa2048 by rsa-sha2-512",
            "rsa2048 in a certificate by rsa-sha2-512",
            "rsa3072 by ssh-rsa",
            "rsa3072 in a certificate by ssh-rsa",
            "authority rsa3072 by ssh-rsa",
        ],
    );
});

const OF_2048_BITS: [&str; 5] = [
    "rsa1024 by rsa-sha2-512",
    "rsa1024 in a certificate by rsa-sha2-512",
    "rsa3072 by ssh-rsa",
    "rsa3072 in a certificate by ssh-rsa",
    "authority rsa3072 by ssh-rsa",
];

case!(compatible, COMPATIBLE, |server| {
    same_as_theirs(server, &OF_2048_BITS);
});

case!(fips, FIPS, |server| {
    same_as_theirs(server, &OF_2048_BITS);
});

case!(of_the_administrators_choice, CHOSEN, |server| {
    let text = shown(server);
    same(server, "signatures", text);
    if server.whose == Whose::Ours {
        server.logged("policy does not take signatures by 'ssh-ed25519'");
        server.logged("policy takes no authority's 'ssh-ed25519' signature");
        // Who is told what is taken chooses the hash by that.
        let mut ann = host().user();
        ann.key = keygen("signer.rsa3072", &["-t", "rsa", "-b", "3072"]);
        ann.put(".ssh/authorized_keys", ann.public_key());
        let done = tests::run(server.ssh(&ann, &["-o", "LogLevel=DEBUG1"]).arg("true"));
        assert!(
            done.code == 0 && !done.err.contains("rsa-sha2-512,"),
            "{done:#?}"
        );
    }
});
