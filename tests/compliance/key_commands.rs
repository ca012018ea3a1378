//! Programs that say which keys and which principals are good.

use std::os::unix::fs::PermissionsExt;

use tests::{User, Whose};

use crate::both::{Config, PLAIN, case, host, same};

const KEYS: Config = Config {
    theirs: "AuthorizedKeysCommand /etc/commands/keys a%%b %u %U %h %t %k %f\nAuthorizedKeysCommandUser daemon\n",
    ours: "authorized-keys-command = [\"/etc/commands/keys\", \"a%%b\", \"%u\", \"%U\", \"%h\", \"%t\", \"%k\", \"%f\"]\n\
           authorized-keys-command-user = \"daemon\"\n",
    ..PLAIN
};
const PRINCIPALS: Config = Config {
    theirs: "TrustedUserCAKeys {}/user_ca.pub\nAuthorizedPrincipalsCommand /etc/commands/principals %u %i %s %t %f %F %T %K %k\n\
             AuthorizedPrincipalsCommandUser daemon\n",
    ours: "trusted-user-ca-keys = [\"{}/user_ca.pub\"]\nprincipals = []\n\
           authorized-principals-command = [\"/etc/commands/principals\", \"%u\", \"%i\", \"%s\", \"%t\", \"%f\", \"%F\", \"%T\", \"%K\", \"%k\"]\n\
           authorized-principals-command-user = \"daemon\"\n",
    ..PLAIN
};
const UNSAFE: Config = Config {
    theirs: "AuthorizedKeysCommand /etc/commands/open\nAuthorizedKeysCommandUser daemon\n",
    ours: "authorized-keys-command = [\"/etc/commands/open\"]\nauthorized-keys-command-user = \"daemon\"\n",
    ..PLAIN
};
const FAILING: Config = Config {
    theirs: "AuthorizedKeysCommand /etc/commands/failing\nAuthorizedKeysCommandUser daemon\n",
    ours: "authorized-keys-command = [\"/etc/commands/failing\"]\nauthorized-keys-command-user = \"daemon\"\n",
    ..PLAIN
};
const SLOW: Config = Config {
    theirs: "LoginGraceTime 15\nAuthorizedKeysCommand /etc/commands/slow\nAuthorizedKeysCommandUser daemon\n",
    ours: "authorized-keys-command = [\"/etc/commands/slow\"]\nauthorized-keys-command-user = \"daemon\"\n",
    ..PLAIN
};

/// Puts a command there; what users' answers are lies in /etc/answers.
fn command(name: &str, script: &str) {
    let path = format!("/etc/commands/{name}");
    host().write(&path, format!("#!/bin/sh\n{script}\n"));
    let mode = |mode| PermissionsExt::from_mode(mode);
    std::fs::set_permissions(host().path(&path), mode(0o755)).unwrap();
    host().write("/etc/answers/none", "");
}

/// Somebody whose key only the command knows.
fn unknown(answer: impl Fn(&User) -> String) -> User {
    let user = host().user();
    user.put(".ssh/authorized_keys", "");
    host().write(format!("/etc/answers/{}", user.name), answer(&user));
    user
}

/// What the command told of itself, without what is somebody's own.
fn told(user: &User) -> String {
    let done = host().sh(&format!("grep '^{} ' /var/log/commands", user.name));
    let line = done.out.lines().next().unwrap_or_default().to_owned();
    let key = user.public_key();
    let blob = key.split_whitespace().nth(1).unwrap().to_owned();
    line.replace(&user.name, "NAME")
        .replace(&user.uid.to_string(), "UID")
        .replace(&blob, "BLOB")
}

const TELL: &str = "env | grep -c . >/dev/null; \
    echo \"$NAME $(id -un) $(id -G) $PATH $HOME $USER $LOGNAME $PWD $* $(env | cut -d= -f1 | grep -v '^_$' | sort | tr '\\n' ' ')\" \
    >>/var/log/commands";

fn tells(name: &str, user: &str, script: &str) {
    host()
        .sh("touch /var/log/commands; chmod 666 /var/log/commands")
        .ok();
    command(name, &format!("NAME={user}\n{TELL}\n{script}"));
}

case!(of_keys, KEYS, |server| {
    tells("keys", "$2", "cat /etc/answers/$2");
    let ann = unknown(User::public_key);
    assert_eq!(server.says(&ann, "echo in").ok(), "in");
    let print = tests::run(
        std::process::Command::new("ssh-keygen")
            .arg("-lf")
            .arg(&ann.key),
    )
    .out;
    let print = print.split(' ').nth(1).unwrap().to_owned();
    let told = told(&ann);
    assert!(told.contains(&print), "{told}");
    // PATH is each server's own.
    let told = told.replace(&print, "PRINT");
    let mut words: Vec<&str> = told.split(' ').collect();
    words.retain(|word| !word.contains("/usr/bin"));
    same(server, "its arguments and environment", words.join(" "));
    // Options hold, and a file that has the key comes first.
    let bob = unknown(|user| format!("command=\"echo forced\" {}", user.public_key()));
    assert_eq!(server.says(&bob, "echo in").ok(), "forced");
    bob.put(".ssh/authorized_keys", bob.public_key());
    assert_eq!(server.says(&bob, "echo in").ok(), "in");
    let eve = unknown(|_| ann.public_key());
    assert_eq!(server.says(&eve, "echo in").code, 255);
});

case!(of_keys_that_fails, FAILING, |server| {
    command(
        "failing",
        "cat /etc/answers/$1; ! grep -q fails /etc/answers/$1",
    );
    let ann = unknown(|user| format!("{}# fails\n", user.public_key()));
    assert_eq!(server.says(&ann, "echo in").code, 255);
    let bob = unknown(User::public_key);
    assert_eq!(server.says(&bob, "echo in").ok(), "in");
});

case!(of_keys_that_others_may_write, UNSAFE, |server| {
    command("open", "cat /etc/answers/$1");
    let ann = unknown(User::public_key);
    assert_eq!(server.says(&ann, "echo in").ok(), "in");
    let path = host().path("/etc/commands/open");
    // Debian's sshd lets a group write that has the owner alone.
    std::os::unix::fs::chown(&path, None, Some(ann.uid)).unwrap();
    for mode in [0o775, 0o757] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(server.says(&ann, "echo in").code, 255, "{mode:o}");
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&path, Some(ann.uid), None).unwrap();
    assert_eq!(server.says(&ann, "echo in").code, 255);
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
});

case!(of_keys_that_hangs, SLOW, |server| {
    command("slow", "test $1 = root || sleep 1000");
    let ann = unknown(User::public_key);
    assert_eq!(server.says(&ann, "echo in").code, 255);
    if server.whose == Whose::Ours {
        let log = server.log();
        assert!(log.contains("child=\"authorized-keys-command\""), "{log}");
    }
});

case!(of_principals, PRINCIPALS, |server| {
    tells("principals", "$1", "cat /etc/answers/$1");
    let signed = |answer: &str| {
        let user = unknown(|_| answer.to_owned());
        let mut sign = std::process::Command::new("ssh-keygen");
        sign.args(["-q", "-I", "the id", "-z", "77", "-n", "staff,other", "-s"]);
        sign.arg(host().folder().join("user_ca"));
        tests::run(sign.arg(format!("{}.pub", user.key.display()))).ok();
        user
    };
    let says = |user: &User| {
        let certificate = format!("CertificateFile={}-cert.pub", user.key.display());
        tests::run(server.ssh(user, &["-o", &certificate]).arg("echo in"))
    };
    let ann = signed("nobody\nstaff\n");
    assert_eq!(says(&ann).ok(), "in");
    let print = tests::run(
        std::process::Command::new("ssh-keygen")
            .arg("-lf")
            .arg(&ann.key),
    )
    .out;
    let print = print.split(' ').nth(1).unwrap().to_owned();
    let certificate = std::fs::read_to_string(format!("{}-cert.pub", ann.key.display())).unwrap();
    let blob = certificate.split(' ').nth(1).unwrap();
    let told = told(&ann);
    assert!(told.contains(blob) && told.contains(&print), "{told}");
    let told = told.replace(blob, "CERTIFICATE").replace(&print, "PRINT");
    let mut words: Vec<&str> = told.split(' ').collect();
    words.retain(|word| !word.contains("/usr/bin"));
    same(server, "its arguments and environment", words.join(" "));
    assert_eq!(says(&signed("nobody\n")).code, 255);
    assert_eq!(says(&signed("")).code, 255);
    let forced = says(&signed("command=\"echo forced\" other\n"));
    assert_eq!(forced.ok(), "forced");
});
