//! `libnss_directory.so.2` in programs of glibc: listing everybody, names while the daemon is dead or frozen,
//! switches of generations under load, damaged files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, sys::signal::kill, unistd::Pid};
use support::{Lab, Settings, has_peers, wait};

fn has(test: &str) -> bool {
    if !has_peers(test) {
        return false;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped {test}: nsswitch.conf is replaced, which needs root");
        return false;
    }
    true
}

/// The module, built as it is now.
fn module() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_BIN_EXE_directoryd")).with_file_name("nss-directory");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "-q", "--release", "--manifest-path"])
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../nss-directory/Cargo.toml"
        ))
        .arg("--target-dir")
        .arg(&folder)
        .status()
        .unwrap();
    assert!(built.success());
    folder.join("release/libnss_directory.so")
}

fn lab(extra: String) -> Lab {
    let lab = Lab::running(Settings {
        extra: extra.leak(),
        ..Settings::default()
    });
    fs::create_dir(lab.path("lib")).unwrap();
    fs::copy(module(), lab.path("lib/libnss_directory.so.2")).unwrap();
    fs::write(
        lab.path("nsswitch.conf"),
        "passwd: files directory\ngroup: files directory\n",
    )
    .unwrap();
    lab
}

/// A program whose libc knows the module; without the nscd socket if `cut`.
fn with_module(lab: &Lab, cut: bool, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let cut = if cut {
        "mount --bind /dev/null /run/nscd/socket &&"
    } else {
        ""
    };
    let script = format!(
        "{cut} mount --bind \"$1\" /etc/nsswitch.conf && export LD_LIBRARY_PATH=\"$2\" && shift 2 && exec \"$@\""
    );
    let mut command = lab.program("sh");
    command
        .args(["-c", &script, "sh"])
        .arg(lab.path("nsswitch.conf"))
        .arg(lab.path("lib"))
        .arg(program);
    command
}

fn ask(lab: &Lab, arguments: &[&str]) -> String {
    let output = with_module(lab, false, arguments[0])
        .args(&arguments[1..])
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

const BOB: &str = "bob:*:1501:1500:Bob Example:/home/bob:/bin/bash";

fn assert_answers(lab: &Lab) {
    assert_eq!(ask(lab, &["getent", "passwd", "bob"]), BOB);
    assert_eq!(ask(lab, &["getent", "passwd", "1501"]), BOB);
    assert_eq!(
        ask(lab, &["getent", "group", "physics"]),
        "physics:*:1510:bob,carol"
    );
    assert_eq!(
        ask(lab, &["getent", "group", "1511"]),
        "chemistry:*:1511:carol,dave"
    );
    assert_eq!(ask(lab, &["getent", "passwd", "nosuch"]), "");
    assert_eq!(ask(lab, &["getent", "group", "54321"]), "");
    assert!(ask(lab, &["getent", "passwd", "root"]).starts_with("root:x:0:0:"));
    let groups = ask(lab, &["id", "-G", "carol"]);
    let groups: BTreeSet<&str> = groups.split(' ').collect();
    assert_eq!(groups, ["1500", "1510", "1511", "1512"].into());
}

#[test]
fn everybody_is_listed_once() {
    if !has("everybody_is_listed_once") {
        return;
    }
    let lab = lab(String::new());
    for (database, ours) in [("passwd", BOB), ("group", "science:*:1512:bob,carol,dave")] {
        let text = ask(&lab, &["getent", database]);
        let local = fs::read_to_string(format!("/etc/{database}")).unwrap();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split(':').next())
            .collect();
        let once: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), once.len(), "{text}");
        assert_eq!(names.len(), local.lines().count() + 4, "{text}");
        assert!(text.lines().any(|line| line == ours), "{text}");
    }
}

#[test]
fn a_dead_daemon_is_not_missed() {
    if !has("a_dead_daemon_is_not_missed") {
        return;
    }
    let mut lab = lab(String::new());
    lab.kill_daemon();
    assert_answers(&lab);
    // Nobody knows whether somebody has come since: that is not "not found".
    let old = 1_000_000_000u64.to_ne_bytes();
    for name in ["nscd/passwd.map", "nscd/group.map"] {
        let file = fs::File::options()
            .write(true)
            .open(lab.path(name))
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &old, 16).unwrap();
    }
    assert_answers(&lab);
}

#[test]
fn a_frozen_daemon_costs_time_and_no_answer() {
    if !has("a_frozen_daemon_costs_time_and_no_answer") {
        return;
    }
    let lab = lab(String::new());
    let daemon = Pid::from_raw(lab.daemon_pid().cast_signed());
    kill(daemon, Signal::SIGSTOP).unwrap();
    assert_eq!(ask(&lab, &["getent", "passwd", "bob"]), BOB);
    kill(daemon, Signal::SIGCONT).unwrap();
}

#[test]
fn big_groups_fit() {
    if !has("big_groups_fit") {
        return;
    }
    let mut extra = String::new();
    let mut members = String::new();
    for number in 0..1500 {
        let dn = format!("uid=u{number},ou=people,dc=example,dc=org");
        extra += &format!(
            "dn: {dn}\nobjectClass: account\nobjectClass: posixAccount\nuid: u{number}\ncn: u{number}\n\
             uidNumber: {}\ngidNumber: 1500\nhomeDirectory: /home/u{number}\n\n",
            20_000 + number
        );
        members += &format!("member: {dn}\n");
    }
    extra += &format!(
        "dn: cn=big,ou=groups,dc=example,dc=org\nobjectClass: groupOfMembers\nobjectClass: posixGroup\n\
         cn: big\ngidNumber: 1600\n{members}\n"
    );
    let mut lab = lab(extra);
    lab.kill_daemon();
    let big = ask(&lab, &["getent", "group", "big"]);
    assert_eq!(big.split(',').count(), 1500);
    assert_eq!(
        ask(&lab, &["getent", "passwd"])
            .lines()
            .filter(|line| line.starts_with('u'))
            .count(),
        1500 + local_u()
    );
    assert_eq!(ask(&lab, &["id", "-G", "u7"]), "1500 1600");
}

fn local_u() -> usize {
    let text = fs::read_to_string("/etc/passwd").unwrap();
    text.lines().filter(|line| line.starts_with('u')).count()
}

#[test]
fn damaged_files_are_as_good_as_none() {
    if !has("damaged_files_are_as_good_as_none") {
        return;
    }
    let mut lab = lab(String::new());
    lab.kill_daemon();
    let whole = fs::read(lab.path("nscd/passwd.map")).unwrap();
    let mut bad: Vec<Vec<u8>> = vec![vec![], vec![0; 50], vec![0xff; 4096], whole[..200].to_vec()];
    bad.extend((120..whole.len()).step_by(whole.len() / 12).map(|from| {
        let mut bytes = whole.clone();
        bytes[from..].fill(0xff);
        bytes
    }));
    for bytes in bad {
        fs::write(lab.path("nscd/passwd.map"), &bytes).unwrap();
        let found = ask(&lab, &["getent", "passwd", "bob"]);
        assert!(found.is_empty() || found == BOB, "{found}");
        assert!(ask(&lab, &["getent", "passwd"]).starts_with("root:"));
    }
    fs::remove_file(lab.path("nscd/passwd.map")).unwrap();
    assert_eq!(ask(&lab, &["getent", "passwd", "bob"]), "");
}

/// Not a test: four threads that look names up and list, run by the test below.
#[test]
#[ignore = "run by the test below"]
fn looping_program() {
    let end = Instant::now() + Duration::from_secs(3);
    let look = move || {
        while Instant::now() < end {
            let bob = nix::unistd::User::from_name("bob")
                .unwrap()
                .expect("bob is missing");
            assert_eq!(bob.uid.as_raw(), 1501);
            let group = nix::unistd::Group::from_gid(1510.into())
                .unwrap()
                .expect("no physics");
            assert_eq!(group.mem, ["bob", "carol"]);
            assert!(nix::unistd::User::from_name("nosuch").unwrap().is_none());
        }
    };
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(look)).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn generations_change_under_load() {
    if !has("generations_change_under_load") {
        return;
    }
    let lab = lab(String::new());
    let program = with_module(&lab, true, std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "looping_program"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for number in 0..15 {
        lab.modify(&format!(
            "dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modify\n\
             replace: gecos\ngecos: Bob {number}\n"
        ));
        lab.client().refresh().unwrap();
        wait("the module sees it", || {
            let output = with_module(&lab, true, "getent")
                .args(["passwd", "bob"])
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.contains(&format!(":Bob {number}:")).then_some(())
        });
    }
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
