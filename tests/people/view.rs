//! A login's own view of the machine: its user's /tmp, its user's processes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use tests::{Server, User, run, run_with};

use crate::host;

const APART: &str =
    "private-tmp = true\nhide-processes = true\nprivate-tmp-folder = \"/run/tmps\"\n";

/// What a command says on a terminal and without one, which is to be the same.
fn both_ways(server: &Server, user: &User, script: &str) -> String {
    let plain = server.says(user, script).ok().to_owned();
    let on_terminal = run(server.ssh(user, &["-tt"]).arg(script));
    assert_eq!(on_terminal.ok().replace('\r', ""), plain, "{script}");
    plain
}

#[test]
fn tmp_is_the_users_and_the_same_in_all_logins() {
    let Some(host) = host("view::tmp_is_the_users_and_the_same_in_all_logins") else {
        return;
    };
    let server = host.gateway(APART);
    let (ann, ben) = (host.user(), host.user());
    // As an init system, or mountPropagation HostToContainer, leaves it.
    server
        .among_its_mounts("mkdir /run/volumes && mount -t tmpfs none /run/volumes && mount --make-shared /run/volumes")
        .ok();
    server
        .says(&ann, "echo ann >/tmp/mine; echo far >/var/tmp/mine")
        .ok();
    assert_eq!(
        both_ways(&server, &ann, "cat /tmp/mine /var/tmp/mine"),
        "ann\nfar"
    );
    assert_eq!(
        both_ways(&server, &ben, "ls -A /tmp /var/tmp"),
        "/tmp:\n\n/var/tmp:"
    );
    // As /tmp is: open to all, sticky; no devices and no set-id programs.
    assert_eq!(
        server.says(&ann, "stat -c '%a %u' /tmp /var/tmp").ok(),
        "1777 0\n1777 0"
    );
    let mounted = server.says(
        &ann,
        "grep -c ' /\\(var/\\)\\?tmp .*nosuid,nodev' /proc/self/mounts",
    );
    assert_eq!(mounted.ok(), "2");
    // Nobody gets there by the folder itself, and nothing of it is in the machine's own /tmp.
    let other = format!("cat /run/tmps/{}/tmp/mine; ls /run/tmps/{0}", ann.uid);
    let refused = server.says(&ben, &other);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("Permission denied"), "{}", refused.err);
    let file = host.path(format!("/run/tmps/{}/tmp/mine", ann.uid));
    assert_eq!(fs::metadata(file).unwrap().uid(), ann.uid);
    assert_ne!(host.sh("cat /tmp/mine").code, 0);
    // Files come and go there by sftp and by forwarded sockets too.
    let batch = "put /etc/hostname /tmp/by-sftp\nls /tmp/by-sftp\n";
    let sftp = run_with(
        &mut server.client("sftp", &ann, &["-b", "-", "127.0.0.1"]),
        batch.as_bytes(),
        tests::SOON,
    );
    assert_eq!(sftp.code, 0, "{}", sftp.err);
    assert_eq!(
        server
            .says(&ann, "cmp /etc/hostname /tmp/by-sftp && echo same")
            .ok(),
        "same"
    );
    // Mounts of the machine that come later are seen in a login that is there already.
    let waiting = "mkdir -p /tmp/at && touch /tmp/at/here; until [ -e /run/volumes/late/x ]; do sleep 0.01; done; echo seen";
    let mut early = server.ssh(&ann, &[]);
    let early = early.arg(waiting).stdout(std::process::Stdio::piped());
    let early = early.spawn().unwrap();
    let here = format!(
        "until [ -e /run/tmps/{}/tmp/at/here ]; do sleep 0.01; done",
        ann.uid
    );
    host.sh(&here).ok();
    server
        .among_its_mounts(
            "cd /run/volumes && mkdir late && mount -t tmpfs none late && touch late/x",
        )
        .ok();
    assert_eq!(early.wait_with_output().unwrap().stdout, b"seen\n");
}

#[test]
fn others_processes_are_not_seen() {
    let Some(host) = host("view::others_processes_are_not_seen") else {
        return;
    };
    // As container runtimes cover it.
    host.sh("mount -t tmpfs -o ro none /proc/fs; \
             mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys")
        .ok();
    let server = host.gateway(APART);
    let (ann, ben) = (host.user(), host.user());
    // Whose processes there are, by the owners of their folders.
    let owners = "stat -c %u /proc/[0-9]* 2>/dev/null | sort -u";
    let uid = ann.uid.to_string();
    assert_eq!(both_ways(&server, &ann, owners), uid);
    let mut bens = server.ssh(&ben, &[]).arg("sleep 1000").spawn().unwrap();
    let running = format!("until pgrep -u {} sleep; do sleep 0.01; done", ben.uid);
    let pid = host.sh(&running);
    let pid = pid.ok();
    assert_eq!(server.says(&ann, owners).ok(), uid);
    assert_ne!(
        server.says(&ann, &format!("cat /proc/{pid}/cmdline")).code,
        0
    );
    assert_ne!(server.says(&ann, "pgrep sleep").code, 0);
    assert_eq!(server.says(&ben, "pgrep sleep").ok(), pid);
    // The rest of /proc is as it was, with what covers parts of it.
    assert_eq!(
        both_ways(&server, &ann, "nproc; head -c 8 /proc/meminfo"),
        host.sh("nproc; head -c 8 /proc/meminfo").ok()
    );
    let covered = "stat -f -c %T /proc/fs; ls /proc/fs; cat /proc/sys/kernel/ostype
        python3 -c 'import os; print(\"read-only\", os.statvfs(\"/proc/sys\").f_flag & 1)'";
    assert_eq!(host.sh(covered).ok(), "tmpfs\nLinux\nread-only 1");
    assert_eq!(server.says(&ann, covered).ok(), "tmpfs\nLinux\nread-only 1");
    let _ = bens.kill();
    let _ = bens.wait();
    // Only for those for whom the policy wants it.
    let some = host.gateway(
        format!(
            "[[match]]\nuser = [\"{}\"]\nhide-processes = true\n",
            ben.name
        )
        .as_str(),
    );
    assert_eq!(some.says(&ben, owners).ok(), ben.uid.to_string());
    assert!(some.says(&ann, owners).ok().lines().any(|line| line == "0"));
}

#[test]
fn without_what_it_needs_there_is_no_login() {
    let Some(host) = host("view::without_what_it_needs_there_is_no_login") else {
        return;
    };
    host.sh("mkdir -p /run/theirs; chmod 777 /run/theirs").ok();
    let ann = host.user();
    let server = host.gateway("private-tmp = true\nprivate-tmp-folder = \"/run/later\"\n");
    host.sh("mkdir -m 777 -p /run/later; chmod 777 /run/later")
        .ok();
    let refused = server.says(&ann, "echo in");
    assert_eq!(refused.code, 255);
    assert!(
        refused.err.contains("could not be opened"),
        "{}",
        refused.err
    );
    server.logged("private-tmp-folder '/run/later'");

    let config = host.folder().join("without.toml");
    fs::write(
        &config,
        "hide-processes = true\nprivate-tmp = true\nprivate-tmp-folder = \"/run/theirs\"\n",
    )
    .unwrap();
    let program = tests::programs().join("login-gateway");
    let said = run(host
        .command("setpriv")
        .args([
            "--bounding-set",
            "-sys_admin",
            "--inh-caps",
            "-sys_admin",
            "--",
        ])
        .arg(&program)
        .args(["--config", config.to_str().unwrap(), "check"]));
    assert_ne!(said.code, 0);
    for words in [
        "hide-processes: it needs the capability SYS_ADMIN",
        "private-tmp: it needs the capability SYS_ADMIN",
        "private-tmp-folder: '/run/theirs' is not a folder of root's",
    ] {
        assert!(
            (said.out.clone() + &said.err).contains(words),
            "{words}: {} {}",
            said.out,
            said.err
        );
    }
}
