//! Disks that are full, over quota or broken, and file systems that hang. Each runs in a mount
//! namespace of its own, as root; what this machine cannot do is skipped by name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::*;

/// Runs a script in a mount namespace; `$1` is the folder and `$0` our server.
fn apart(script: &str, folder: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-euc", script, OURS]);
    command.arg(folder);
    command
}

/// If the script works here; otherwise the test is skipped, with what the script said.
fn can(test: &str, script: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let tried = apart(script, folder.path()).output();
    let said = match &tried {
        Ok(Output { status, .. }) if status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    println!("skipped: {test}: {said}");
    false
}

/// Writes pieces until one is refused: the bytes that were acknowledged, and the refusal.
fn fill(c: &mut Client, handle: &F, limit: u64) -> (u64, Answer) {
    let piece = vec![0x55; 100_000];
    let mut acknowledged = 0;
    while acknowledged < limit {
        let answer = c.ask(WRITE, &[handle.clone(), F::L(acknowledged), s(&piece)]);
        if answer.code() != 0 {
            return (acknowledged, answer);
        }
        acknowledged += piece.len() as u64;
    }
    panic!("{acknowledged} bytes were taken");
}

fn all_there(c: &mut Client, handle: &F, length: u64) {
    let mut at = 0;
    while at < length {
        let answer = c.ask(READ, &[handle.clone(), F::L(at), F::N(100_000)]);
        assert!(answer.data().iter().all(|b| *b == 0x55), "at {at}");
        at += answer.data().len() as u64;
    }
}

fn said(answer: &Answer) -> (u32, String) {
    (answer.code(), answer.text())
}

/// btrfs has quotas in every kernel that has it; those of ext4 are an option of the kernel.
const QUOTA: &str = "
    exec 3>&1 >&2
    mount -t tmpfs none \"$1\"; cd \"$1\"; truncate -s 200M image; mkfs.btrfs -q image
    mkdir on; mount -o loop image on; btrfs quota enable on
    btrfs subvolume create -q on/sub 2>/dev/null || btrfs subvolume create on/sub >/dev/null
    btrfs qgroup limit 8M on/sub; cd on/sub";

#[test]
fn a_quota_that_is_used_up() {
    if !can("a_quota_that_is_used_up", QUOTA) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!("{QUOTA}; exec \"$0\" >&3");
    let mut c = Client::with(&mut apart(&script, folder.path()), folder.path());
    c.open("f", "f", R | W | CREAT, A::default());
    let h = c.h("f");
    let (acknowledged, refused) = fill(&mut c, &h, 100_000_000);
    assert_eq!(said(&refused), (4, "Quota exceeded".into()));
    assert!(acknowledged >= 4_000_000, "{acknowledged}");
    all_there(&mut c, &h, acknowledged);
    let answer = c.extended("fsync@openssh.com", std::slice::from_ref(&h));
    assert_eq!(answer.code(), 0, "what was acknowledged is on the disk");
    c.open("to", "to", W | CREAT, A::default());
    if let F::S(to) = c.h("to")
        && to != [0x7f; 4]
    {
        let parts = [h.clone(), F::L(0), F::L(0), s(to), F::L(0)];
        let copied = c.extended("copy-data", &parts);
        // A file system that shares blocks takes none for a copy.
        assert!(
            copied.code() == 0 || copied.text() == "Quota exceeded",
            "{copied:?}"
        );
    }
    assert_eq!(c.ask(CLOSE, &[h]).code(), 0);
    assert!(c.finish().success());
}

/// ext4 on a device that has less room than it says: what the page cache took, the disk refuses.
const BROKEN: &str = "
    exec 3>&1 >&2
    mount -t tmpfs -o size=24m none \"$1\"; cd \"$1\"; truncate -s 200M image
    mkfs.ext4 -q -E lazy_itable_init=1 -O ^has_journal image; mkdir on
    mount -o loop,errors=continue image on; cd on";

#[test]
fn a_disk_that_fails_is_told_by_fsync() {
    if !can("a_disk_that_fails_is_told_by_fsync", BROKEN) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!("{BROKEN}; exec \"$0\" >&3");
    let mut c = Client::with(&mut apart(&script, folder.path()), folder.path());
    c.open("f", "f", R | W | CREAT, A::default());
    let h = c.h("f");
    let piece = vec![0x55; 250_000];
    let mut refused = None;
    for n in 0..160 {
        let answer = c.ask(WRITE, &[h.clone(), F::L(n * 250_000), s(&piece)]);
        if answer.code() != 0 {
            refused = Some(answer);
            break;
        }
    }
    let refused =
        refused.unwrap_or_else(|| c.extended("fsync@openssh.com", std::slice::from_ref(&h)));
    // What the device under it said, or that it said something.
    let texts = ["No space left on device", "I/O error"];
    assert!(
        refused.code() == 4 && texts.contains(&&*refused.text()),
        "{refused:?}"
    );
    // The connection goes on.
    assert_eq!(c.ask(CLOSE, &[h]).code(), 0);
    assert_eq!(c.ask(STAT, &[s("/")]).kind, ATTRS);
    assert!(c.finish().success());

    // OpenSSH's client asks for that with -f, and tells what it was answered.
    let script = format!(
        "{BROKEN}; head -c 40000000 /dev/zero >/dev/shm/faults.$$
        trap 'rm /dev/shm/faults.$$' EXIT
        echo \"put -f /dev/shm/faults.$$ f\" >../batch; sftp -D \"$0\" -b ../batch"
    );
    let output = apart(&script, folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("remote fsync: Failure"), "{text}");
}

/// The memory of a process has no page at 0, and the kernel says so with EIO both ways.
#[test]
fn a_file_that_cannot_be_read_or_written() {
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    let memory = format!("/proc/{}/mem", sleeper.id());
    if fs::File::options()
        .read(true)
        .write(true)
        .open(&memory)
        .is_err()
    {
        println!("skipped: a_file_that_cannot_be_read_or_written: '{memory}' may not be opened");
    } else {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f"), "whole").unwrap();
        let mut c = Client::start(OURS, &[], folder.path());
        c.open("f", "f", R | W, A::default());
        c.open("m", &memory, R | W, A::default());
        let (m, f) = (c.h("m"), c.h("f"));
        for _ in 0..3 {
            let read = c.ask(READ, &[m.clone(), F::L(0), F::N(100_000)]);
            assert_eq!(said(&read), (4, "I/O error".into()));
            let written = c.ask(WRITE, &[m.clone(), F::L(0), s("x")]);
            assert_eq!(said(&written), (4, "I/O error".into()));
            assert_eq!(c.ask(READ, &[f.clone(), F::L(0), F::N(9)]).data(), b"whole");
        }
        let synced = c.extended("fsync@openssh.com", std::slice::from_ref(&m));
        assert_eq!(said(&synced), (5, "Invalid argument".into()));
        let parts = [m, F::L(0), F::L(10), f, F::L(0)];
        assert_eq!(
            said(&c.extended("copy-data", &parts)),
            (4, "I/O error".into())
        );
        assert!(c.finish().success());
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

/// A disk that fills in the middle of `put`: the client fails, what it sent is there, and when
/// there is room again `reput` makes it whole.
#[test]
fn put_onto_a_disk_that_fills() {
    let test = "put_onto_a_disk_that_fills";
    if !can(
        test,
        "mount -t tmpfs none \"$1\"; command -v sftp >/dev/null",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "
        mount -t tmpfs none \"$1\"; cd \"$1\"; mkdir small; mount -t tmpfs -o size=3m none small
        head -c 6000000 /dev/urandom >big
        echo 'put big small/big' >batch
        status=0; sftp -D \"$0\" -b batch >/dev/null || status=$?
        echo status $status
        size=$(stat -c %s small/big)
        [ $size -gt 2000000 ]; [ $size -lt 6000000 ]
        cmp -n $size big small/big && echo same so far
        mount -o remount,size=16m small
        echo 'reput big small/big' >batch; sftp -D \"$0\" -b batch >/dev/null
        cmp big small/big && echo whole";
    let output = apart(script, folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "status 1\nsame so far\nwhole\n", "{output:?}");
}

/// What hangs is one file system whose server is stopped; 64 of the largest writes and reads wait
/// for it, as OpenSSH's client sends them, while files elsewhere are read and written.
#[test]
fn a_file_system_that_hangs_holds_up_nobody_else() {
    let test = "a_file_system_that_hangs_holds_up_nobody_else";
    let needs = "mount -t tmpfs none \"$1\"; command -v sshfs fusermount3; : >/dev/fuse
        [ -x /usr/lib/openssh/sftp-server ]";
    if !can(test, needs) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let remote = folder.path().join("remote");
    fs::create_dir(&remote).unwrap();
    fs::create_dir(folder.path().join("far")).unwrap();
    fs::write(remote.join("f"), vec![0x55; 1 << 20]).unwrap();
    fs::write(folder.path().join("near"), "content").unwrap();
    let ssh = folder.path().join("ssh");
    fs::write(
        &ssh,
        format!(
            "#!/bin/sh\necho $$ >{}.new\nmv {0}.new {0}\nexec /usr/lib/openssh/sftp-server\n",
            pid.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script =
        "cd \"$1\"; sshfs -o ssh_command=\"$1/ssh\",direct_io,attr_timeout=0,entry_timeout=0 \\
            nowhere:\"$1/remote\" far
        trap 'umount -l far' EXIT; \"$0\"";
    let mut c = Client::with(&mut apart(script, folder.path()), folder.path());
    c.open("far", "far/f", R | W, A::default());
    c.open("near", "near", R | W, A::default());
    let (far, near) = (c.h("far"), c.h("near"));
    assert_eq!(
        c.ask(READ, &[far.clone(), F::L(0), F::N(1)]).data(),
        [0x55],
        "it is mounted"
    );
    let behind: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let behind = Pid::from_raw(behind);
    kill(behind, Signal::SIGSTOP).unwrap();
    let piece = vec![0x66; 255 * 1024];
    let mut late = Vec::new();
    for n in 0..64 {
        late.push(c.send(
            WRITE,
            &[far.clone(), F::L(n * piece.len() as u64), s(&piece)],
        ));
    }
    late.push(c.send(STAT, &[s("far/f")]));
    for n in 0..64 {
        late.push(c.send(READ, &[far.clone(), F::L(n * 1000), F::N(255 * 1024)]));
    }
    for n in 0..200 {
        assert_eq!(
            c.ask(READ, &[near.clone(), F::L(0), F::N(7)]).data(),
            b"content",
            "{n}"
        );
        assert_eq!(
            c.ask(WRITE, &[near.clone(), F::L(0), s("content")]).code(),
            0
        );
        assert_eq!(c.ask(STAT, &[s("near")]).kind, ATTRS);
    }
    kill(behind, Signal::SIGCONT).unwrap();
    // The question about the name and the reads of the handle may overtake each other.
    while !late.is_empty() {
        let answer = c.receive();
        let place = late.iter().position(|id| *id == answer.id);
        late.remove(place.expect("an answer to what was asked, and one only"));
        match answer.kind {
            STATUS => assert_eq!(answer.code(), 0),
            DATA => assert!(answer.data().iter().all(|b| *b == 0x66)),
            other => assert_eq!(other, ATTRS),
        }
    }
    assert_eq!(c.ask(CLOSE, &[far]).code(), 0);
    assert_eq!(fs::read(remote.join("f")).unwrap().len(), 64 * piece.len());

    // With the client gone, the server does not wait for what will never come.
    kill(behind, Signal::SIGSTOP).unwrap();
    c.send(STAT, &[s("far/f")]);
    drop(c.input.take());
    let begun = Instant::now();
    while c.child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            panic!("the server waits for what hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(behind, Signal::SIGCONT).unwrap();
}
