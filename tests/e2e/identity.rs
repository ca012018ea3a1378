//! Who alice is: in the directory alone, and right wherever a name or a number is shown.

use std::io::Read;
use std::process::Stdio;

use tests::lab;

#[test]
fn alice_is_in_no_local_file_and_right_everywhere() {
    let lab = lab();
    let alice = lab.person("alice");
    if lab.admin(&["group", "show", "chemistry"]).code != 0 {
        lab.admin(&["group", "add", "chemistry"]).ok();
    }
    lab.admin(&["group", "member", "add", "chemistry", "alice"])
        .ok();
    assert_eq!(
        lab.exec(
            "gateway",
            &["grep", "-c", "alice", "/etc/passwd", "/etc/group"]
        )
        .code,
        1
    );
    // The login refreshes alice, her new group with her.
    let said = lab.ssh(
        &alice,
        "id -un; id -gn; id -Gn; getent passwd alice; getent group chemistry",
    );
    let lines: Vec<&str> = said.ok().lines().collect();
    assert_eq!((lines[0], lines[1]), ("alice", "alice"));
    assert!(lines[2].split(' ').any(|g| g == "chemistry"), "{lines:?}");
    let passwd: Vec<&str> = lines[3].split(':').collect();
    assert_eq!(
        (passwd[0], passwd[5], passwd[6]),
        ("alice", "/home/alice", "/bin/bash")
    );
    assert!(
        lines[4].starts_with("chemistry:") && lines[4].contains("alice"),
        "{lines:?}"
    );
    // By number too, and not for numbers that nobody has.
    let uid = lab.ssh(&alice, "id -u");
    assert_eq!(
        lab.ssh(&alice, &format!("id -un {}", uid.ok())).ok(),
        "alice"
    );
    assert_eq!(
        lab.ssh(&alice, "getent passwd 54321 no-such-user; echo $?")
            .ok(),
        "2"
    );
    assert_eq!(
        lab.ssh(&alice, "getent passwd root | cut -d: -f3").ok(),
        "0"
    );
}

#[test]
fn groups_are_set_before_the_shell_starts() {
    let lab = lab();
    let alice = lab.person("alice");
    let said = lab.ssh(&alice, "grep ^Groups: /proc/self/status; id -G");
    let lines: Vec<&str> = said.ok().lines().collect();
    let sorted = |text: &str| {
        let mut ids: Vec<u32> = text
            .split_whitespace()
            .filter_map(|w| w.parse().ok())
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(lines[0]), sorted(lines[1]));
}

#[test]
fn the_home_is_made_once_with_skel() {
    let lab = lab();
    let name = format!("new{}", std::process::id());
    let person = lab.person(&name);
    let said = lab.ssh(
        &person,
        "pwd; stat -c '%a %U %G' .; ls -l .bashrc; touch mine",
    );
    let text = said.ok();
    assert!(
        text.contains(&format!("/home/{name}\n700 {name} {name}")),
        "{text}"
    );
    assert!(
        text.contains(&format!("{name} {name}")) && text.contains(".bashrc"),
        "{text}"
    );
    lab.ssh(&person, "rm .bashrc").ok();
    assert_eq!(
        lab.ssh(&person, "ls -A | grep -c bashrc; ls mine").out,
        "0\nmine\n"
    );
    lab.ssh(&person, "cd / && rm -rf /home/$USER/* ").ok();
    lab.admin(&["user", "del", &name]).ok();
    // A deleted user is gone at the next look.
    assert_eq!(lab.ssh(&person, "true").code, 255);
}

#[test]
fn who_is_removed_is_logged_out() {
    let lab = lab();
    let name = format!("gone{}", std::process::id());
    let person = lab.person(&name);
    let mut ssh = lab.ssh_with(&person, &[]);
    let mut login = ssh
        .arg("echo in; exec sleep 600")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 3];
    let mut output = login.stdout.take().unwrap();
    output.read_exact(&mut said).unwrap();
    lab.admin(&["user", "del", &name]).ok();
    lab.until("the login has ended", || {
        login.try_wait().unwrap().is_some()
    });
    let mut words = String::new();
    let mut error = login.stderr.take().unwrap();
    error.read_to_string(&mut words).unwrap();
    assert!(words.contains("may no longer log in"), "{words}");
    let log = lab.podman(&["logs"], "pod-0-gateway");
    let reason = "the directory no longer has the account";
    let ended = |line: &str| line.contains(&name) && line.contains(reason);
    assert!(log.out.lines().chain(log.err.lines()).any(ended));
}

#[test]
fn an_outage_of_the_directory_changes_nothing_but_freshness() {
    let lab = lab();
    let alice = lab.person("alice");
    assert_eq!(lab.ssh(&alice, "id -un").ok(), "alice");
    lab.podman(&["pause"], "ldap").ok();
    let frozen = lab.ssh(
        &alice,
        "id -un; getent passwd alice | cut -d: -f1; ls -ld ~ | cut -d' ' -f3",
    );
    lab.podman(&["unpause"], "ldap").ok();
    assert_eq!(frozen.ok(), "alice\nalice\nalice");
}

#[test]
fn only_directoryd_can_read_the_bind_password() {
    let lab = lab();
    let alice = lab.person("alice");
    let file = tests::repo().join(".lab/directory/secret/reader-password");
    let password = std::fs::read_to_string(file).unwrap();
    let script = "cat /etc/directoryd/* /etc/directoryd-secret/* /proc/*/environ /proc/*/cmdline \
        /proc/*/root/etc/directoryd-secret/* 2>/dev/null; true";
    assert!(!lab.ssh(&alice, script).ok().contains(password.trim()));
    // Neither can root of the other containers: the secret is mounted in one.
    for container in ["gateway", "sackd"] {
        let found = lab.exec(container, &["sh", "-c", script]);
        assert!(!found.out.contains(password.trim()), "{container}");
    }
    // The control socket answers root and the gateway, not her.
    let asked = lab.ssh_feed(
        &alice,
        "perl - /run/directoryd/control.sock",
        b"use IO::Socket::UNIX; $s = IO::Socket::UNIX->new(shift) or die \"connect: $!\"; \
          $s->send(\"\\0\\0\\0\\1\\1\"); print length(<$s> // '');",
    );
    assert!(
        asked.out == "0" || asked.err.contains("connect: Permission denied"),
        "{asked:#?}"
    );
}
