//! What is not compared with OpenSSH's server: bad packets, order and parallel work, limits of
//! memory, full disks, the end, the record.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::stat::Mode;
use support::*;

fn start(folder: &Path) -> Client {
    Client::start(OURS, &[], folder)
}

#[test]
fn bad_packets_are_answered_and_the_next_one_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut c = start(folder.path());
    for (kind, parts, code) in [
        (99, vec![], 8),
        (2, vec![], 8),
        (101, vec![s("x")], 8),
        (255, vec![F::N(0)], 8),
        (OPEN, vec![s("x")], 5),
        (OPEN, vec![F::N(u32::MAX), F::Raw(b"x".to_vec())], 5),
        (READ, vec![s("1234"), F::L(0)], 5),
        (
            WRITE,
            vec![s("1234"), F::L(0), F::N(7), F::Raw(b"short".to_vec())],
            5,
        ),
        (STAT, vec![], 5),
        (STAT, vec![s("a\0b")], 5),
        (RENAME, vec![s("a")], 5),
        (SETSTAT, vec![s("a"), F::N(1)], 5),
        (SETSTAT, vec![s("a"), F::N(0x8000_0000), F::N(u32::MAX)], 5),
        (EXTENDED, vec![], 5),
        (EXTENDED, vec![s("statvfs@openssh.com")], 5),
        (
            EXTENDED,
            vec![s("users-groups-by-id@openssh.com"), s("abc"), s("")],
            5,
        ),
        (EXTENDED, vec![s("never-heard-of")], 8),
    ] {
        let answer = c.ask(kind, &parts);
        assert_eq!(answer.code(), code, "{kind} {parts:?}");
        assert_eq!(c.ask(STAT, &[s(".")]).kind, ATTRS);
    }
    // More than the fields is ignored.
    assert_eq!(c.ask(STAT, &[s("."), F::L(7)]).kind, ATTRS);
    // The version may be agreed on again.
    c.send_raw(&fields(&[F::N(5), F::B(INIT), F::N(3)]));
    assert_eq!(c.receive().kind, 2);
    assert!(c.finish().success());
}

/// Bodies of chance behind every type: each is answered once and in its turn, and nothing else is.
#[test]
fn garbage_is_answered_as_such() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 1..=20u64 {
        println!("seed {seed}");
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut any = |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % limit
        };
        // Nothing that a name made of chance could hurt, and no way up.
        let mut c = Client::start(OURS, &["-R"], folder.path());
        fs::write(folder.path().join("f"), "content").unwrap();
        c.open("f", "f", R, A::default());
        let h = c.h("f");
        for _ in 0..50 {
            let mut ids = Vec::new();
            for _ in 0..20 {
                let kind = match any(3) {
                    0 => any(256) as u8,
                    1 => EXTENDED,
                    _ => 3 + any(18) as u8,
                };
                // INIT would be a second greeting.
                let kind = if kind == INIT { 255 } else { kind };
                let start = match any(4) {
                    0 => s("f"),
                    1 => h.clone(),
                    2 => s("copy-data"),
                    _ => F::Raw(Vec::new()),
                };
                let chance = (0..any(60)).map(|_| any(256) as u8 & any(256) as u8);
                ids.push(c.send(kind, &[start, F::Raw(chance.collect())]));
            }
            let mut answered: Vec<_> = ids.iter().map(|_| c.receive().id).collect();
            answered.sort_unstable();
            assert_eq!(answered, ids);
        }
        assert_eq!(c.ask(STAT, &[s("f")]).kind, ATTRS);
        assert!(c.finish().success());
    }
}

#[test]
fn what_cannot_be_answered_ends_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    for (packet, code) in [
        (vec![F::N(256 * 1024 + 1), F::B(STAT)], 11),
        (vec![F::N(u32::MAX)], 11),
        (vec![F::N(0)], 255),
        (vec![F::N(4), F::B(STAT), F::Raw(vec![0; 3])], 255),
    ] {
        let mut c = start(folder.path());
        c.send_raw(&fields(&packet));
        assert_eq!(c.try_receive(), None);
        assert_eq!(c.wait().code(), Some(code), "{packet:?}");
    }
    // Without a version first.
    let mut child = Command::new(OURS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let packet = fields(&[F::N(10), F::B(STAT), F::N(1), s(".")]);
    child.stdin.as_mut().unwrap().write_all(&packet).unwrap();
    assert_eq!(wait(&mut child).code(), Some(255));
}

#[test]
fn old_clients_get_no_texts() {
    let folder = tempfile::tempdir().unwrap();
    let mut c = start(folder.path());
    c.send_raw(&fields(&[F::N(5), F::B(INIT), F::N(2)]));
    assert_eq!(c.receive().kind, 2);
    assert_eq!(c.ask(STAT, &[s("none")]).body.len(), 4);
}

#[test]
fn all_that_was_asked_before_the_end_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        let mut c = start(folder.path());
        let ids: Vec<_> = (0..100).map(|_| c.send(STAT, &[s(".")])).collect();
        // A packet that is cut off is nobody's.
        c.send_raw(&[0, 0, 0, 9, STAT]);
        drop(c.input.take());
        let mut answers: Vec<_> = std::iter::from_fn(|| c.try_receive())
            .map(|a| a.id)
            .collect();
        answers.sort_unstable();
        assert_eq!(answers, ids);
        assert!(c.wait().success());
    }
}

/// Requests on one file have the results that they would have one at a time.
#[test]
fn order_is_kept_where_it_matters() {
    let folder = tempfile::tempdir().unwrap();
    let mut c = start(folder.path());
    for round in 0..300 {
        let no = A::default().field();
        let mut expected = Vec::new();
        let mut send = |c: &mut Client, kind: u8, parts: &[F], answer: &str| {
            expected.push((c.send(kind, parts), answer.to_owned()));
        };
        send(&mut c, MKDIR, &[s("a"), no.clone()], "status 0");
        send(&mut c, MKDIR, &[s("a/b"), no.clone()], "status 0");
        send(&mut c, RENAME, &[s("a"), s("c")], "status 0");
        send(&mut c, STAT, &[s("a")], "status 2");
        send(&mut c, RMDIR, &[s("c")], "status 4");
        send(&mut c, MKDIR, &[s("other"), no.clone()], "status 0");
        send(&mut c, RMDIR, &[s("c/b")], "status 0");
        send(&mut c, RMDIR, &[s("./c")], "status 0");
        send(&mut c, SYMLINK, &[s("x"), s("c")], "status 0");
        send(&mut c, REMOVE, &[s("c")], "status 0");
        send(&mut c, RMDIR, &[s("other")], "status 0");
        let mut answers: Vec<_> = (0..expected.len())
            .map(|_| {
                let answer = c.receive();
                (answer.id, c.text(&answer))
            })
            .collect();
        answers.sort_unstable();
        assert_eq!(answers, expected, "round {round}");
    }
}

#[test]
fn writes_are_seen_by_later_requests() {
    let folder = tempfile::tempdir().unwrap();
    let mut c = start(folder.path());
    for round in 0..200u64 {
        c.open("w", "f", W | CREAT | TRUNC, A::default());
        c.open("r", "f", R, A::default());
        let (w, r) = (c.h("w"), c.h("r"));
        let data = vec![round as u8; 100_000];
        let first = c.send(WRITE, &[w.clone(), F::L(0), s(&data)]);
        let other = c.send(READ, &[r.clone(), F::L(99_999), F::N(10)]);
        let stat = c.send(STAT, &[s("f")]);
        let cut = c.send(
            SETSTAT,
            &[
                s("f"),
                A {
                    size: Some(5),
                    ..A::default()
                }
                .field(),
            ],
        );
        let again = c.send(READ, &[r.clone(), F::L(0), F::N(10)]);
        let close = c.send(CLOSE, &[w]);
        let mut answers: Vec<_> = (0..6).map(|_| c.receive()).collect();
        answers.sort_by_key(|a| a.id);
        let ids: Vec<_> = answers.iter().map(|a| a.id).collect();
        assert_eq!(ids, [first, other, stat, cut, again, close]);
        assert_eq!(answers[1].data(), [round as u8]);
        assert_eq!(answers[2].body[4..12], 100_000u64.to_be_bytes());
        assert_eq!(answers[4].data(), [round as u8; 5]);
        assert_eq!(c.ask(CLOSE, &[r]).code(), 0);
    }
}

#[test]
fn answers_of_one_handle_come_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), vec![7; 100_000]).unwrap();
    let mut c = start(folder.path());
    for handle in ["1", "2", "3"] {
        c.open(handle, "f", R, A::default());
    }
    let mut sent = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..300 {
        let n = round * 7 % 3;
        let h = c.h(["1", "2", "3"][n]);
        let id = c.send(
            READ,
            &[
                h,
                F::L(round as u64 * 100),
                F::N(if round % 2 == 0 { 50_000 } else { 10 }),
            ],
        );
        sent[n].push(id);
    }
    let mut got = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..300 {
        let id = c.receive().id;
        let n = (0..3).find(|n| sent[*n].contains(&id)).unwrap();
        got[n].push(id);
    }
    assert_eq!(sent, got);
}

/// A file that hangs when it is opened (a pipe without a writer) keeps nothing else from going on.
#[test]
fn a_slow_file_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let fifos = ["fifo1", "fifo2", "fifo3"];
    for fifo in fifos {
        nix::unistd::mkfifo(&folder.path().join(fifo), Mode::S_IRWXU).unwrap();
    }
    fs::write(folder.path().join("f"), "content").unwrap();
    let mut c = start(folder.path());
    c.open("early", "f", R, A::default());
    let slow = fifos.map(|fifo| c.send(OPEN, &[s(fifo), F::N(R), A::default().field()]));
    // One at a time, and many at once.
    let early = c.h("early");
    assert_eq!(
        c.ask(READ, &[early.clone(), F::L(0), F::N(3)]).data(),
        b"con"
    );
    c.open("late", "f", R | W, A::default());
    let late = c.h("late");
    for _ in 0..50 {
        c.send(READ, &[late.clone(), F::L(0), F::N(3)]);
        c.send(WRITE, &[late.clone(), F::L(0), s("con")]);
        c.send(STAT, &[s("f")]);
    }
    for _ in 0..150 {
        assert!(!slow.contains(&c.receive().id));
    }
    c.list(".");
    assert_eq!(c.ask(MKDIR, &[s("d"), A::default().field()]).code(), 0);
    for (fifo, id) in fifos.iter().zip(slow) {
        let _writer = fs::OpenOptions::new()
            .write(true)
            .open(folder.path().join(fifo))
            .unwrap();
        let answer = c.receive();
        assert_eq!((answer.id, answer.kind), (id, HANDLE));
    }
    assert!(c.finish().success());
}

#[test]
fn a_client_that_leaves_ends_even_what_hangs() {
    let folder = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&folder.path().join("fifo"), Mode::S_IRWXU).unwrap();
    let mut c = start(folder.path());
    c.send(OPEN, &[s("fifo"), F::N(R), A::default().field()]);
    assert!(c.finish().success());
    // One that takes no answers any more, with a large one under way.
    fs::write(folder.path().join("f"), vec![0; 1 << 20]).unwrap();
    let mut c = start(folder.path());
    c.open("f", "f", R, A::default());
    let h = c.h("f");
    for _ in 0..20 {
        c.send(READ, &[h.clone(), F::L(0), F::N(255 * 1024)]);
    }
    let (input, mut child) = (c.input.take(), std::mem::replace(&mut c.child, sleeper()));
    drop(c);
    assert!(wait(&mut child).success());
    drop(input);
}

fn sleeper() -> std::process::Child {
    Command::new("true").spawn().unwrap()
}

fn peak_kib(child: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_client_that_does_not_read_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("f")).unwrap();
    file.set_len(4 << 30).unwrap();
    for size in [255 * 1024u32, 30_000, 1] {
        let mut c = start(folder.path());
        c.open("f", "f", R, A::default());
        let h = c.h("f");
        let mut packet = fields(&[F::B(READ), F::N(9), h, F::L(0), F::N(size)]);
        packet.splice(0..0, (packet.len() as u32).to_be_bytes());
        let count = 200_000u64.min((1u64 << 30) / u64::from(size));
        let mut input = c.input.take().unwrap();
        let sender = std::thread::spawn(move || {
            for _ in 0..count {
                input.write_all(&packet).unwrap();
            }
            input
        });
        // Until it stops by itself.
        let mut last = 0;
        loop {
            std::thread::sleep(std::time::Duration::from_millis(300));
            let now = peak_kib(c.child.id());
            if now == last {
                break;
            }
            last = now;
        }
        assert!(last < 40 * 1024, "{last} KiB for reads of {size}");
        for _ in 0..count {
            assert_eq!(c.receive().data().len(), size as usize);
        }
        let peak = peak_kib(c.child.id());
        assert!(peak < 40 * 1024, "{peak} KiB for reads of {size}");
        drop(sender.join().unwrap());
        assert!(c.wait().success());
    }
}

#[test]
fn many_small_requests_may_be_sent_before_the_first_answer_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut c = start(folder.path());
    for _ in 0..20_000 {
        c.send(STAT, &[s(".")]);
    }
    for _ in 0..20_000 {
        assert_eq!(c.receive().kind, ATTRS);
    }
}

#[test]
fn a_full_disk_is_a_failure_with_a_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut c = start(folder.path());
    c.open("full", "/dev/full", W, A::default());
    let h = c.h("full");
    let answer = c.ask(WRITE, &[h, F::L(0), s("x")]);
    assert_eq!(
        (answer.code(), answer.text().as_str()),
        (4, "No space left on device")
    );

    // A limit on the size of files: the part that fits is in the file and not acknowledged.
    let mut limited = Command::new("bash");
    limited.args(["-c", "ulimit -f 100; exec \"$0\"", OURS]);
    let mut c = Client::with(&mut limited, folder.path());
    c.open("f", "f", W | CREAT, A::default());
    let h = c.h("f");
    assert_eq!(
        c.ask(WRITE, &[h.clone(), F::L(0), s(vec![1; 100_000])])
            .code(),
        0
    );
    let answer = c.ask(WRITE, &[h.clone(), F::L(100_000), s(vec![2; 100_000])]);
    assert_eq!(
        (answer.code(), answer.text().as_str()),
        (4, "File too large")
    );
    assert_eq!(
        c.ask(WRITE, &[h.clone(), F::L(0), s("still there")]).code(),
        0
    );
    assert_eq!(c.ask(CLOSE, &[h]).code(), 0);
    assert_eq!(fs::read(folder.path().join("f")).unwrap().len(), 102_400);
}

#[test]
fn a_full_file_system_loses_nothing_that_was_acknowledged() {
    let script = "mount -t tmpfs -o size=1m none \"$1\" && cd \"$1\" && exec \"$0\"";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let tried = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "none", path])
        .stderr(Stdio::null())
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        println!("skipped: a_full_file_system: mounting needs root");
        return;
    }
    let mut c = Client::with(
        Command::new("unshare").args(["-m", "sh", "-c", script, OURS, path]),
        folder.path(),
    );
    c.open("f", "f", R | W | CREAT, A::default());
    let h = c.h("f");
    let mut acknowledged = 0;
    let piece = vec![0x55; 100_000];
    let failed = loop {
        let answer = c.ask(WRITE, &[h.clone(), F::L(acknowledged), s(&piece)]);
        if answer.code() != 0 {
            break answer;
        }
        acknowledged += piece.len() as u64;
    };
    assert_eq!(
        (failed.code(), failed.text().as_str()),
        (4, "No space left on device")
    );
    assert!(acknowledged >= 900_000);
    assert_eq!(
        c.extended("fsync@openssh.com", std::slice::from_ref(&h))
            .code(),
        0
    );
    let mut at = 0;
    while at < acknowledged {
        let answer = c.ask(READ, &[h.clone(), F::L(at), F::N(100_000)]);
        assert!(answer.data().iter().all(|b| *b == 0x55));
        at += answer.data().len() as u64;
    }
    c.open("to", "to", W | CREAT, A::default());
    let parts = [h, F::L(0), F::L(0), c.h("to"), F::L(0)];
    assert_eq!(
        c.extended("copy-data", &parts).text(),
        "No space left on device"
    );
}

#[test]
fn names_are_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let name = b"r\xe9sum\xe9 \xff\xfe.txt".to_vec();
    fs::write(
        folder.path().join(std::ffi::OsStr::from_bytes(&name)),
        "latin",
    )
    .unwrap();
    let mut c = start(folder.path());
    c.opendir("d", ".");
    let h = c.h("d");
    let names = c.ask(READDIR, &[h]).names();
    assert!(names.contains(&name), "{names:?}");
    let handle = c
        .ask(OPEN, &[s(&name), F::N(R), A::default().field()])
        .handle();
    assert_eq!(c.ask(READ, &[s(handle), F::L(0), F::N(9)]).data(), b"latin");
    assert!(c.ask(REALPATH, &[s(&name)]).name().ends_with(&name));
    assert_eq!(c.ask(RENAME, &[s(&name), s(b"\xe4")]).code(), 0);
    assert_eq!(c.ask(SYMLINK, &[s(b"\xe4"), s(b"\xf6")]).code(), 0);
    assert_eq!(c.ask(READLINK, &[s(b"\xf6")]).name(), b"\xe4");
}

#[test]
fn handles_end_where_descriptors_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut limited = Command::new("bash");
    limited.args(["-c", "ulimit -n 40; exec \"$0\"", OURS]);
    let mut c = Client::with(&mut limited, folder.path());
    let limits = c.extended("limits@openssh.com", &[]);
    let number = |at: usize| u64::from_be_bytes(limits.body[at * 8..][..8].try_into().unwrap());
    assert_eq!(
        [number(0), number(1), number(2), number(3)],
        [262_144, 261_120, 261_120, 35]
    );
    let mut handles = Vec::new();
    let refused = loop {
        let answer = c.ask(OPEN, &[s("f"), F::N(W | CREAT), A::default().field()]);
        match answer.kind {
            HANDLE => handles.push(answer.handle()),
            _ => break answer,
        }
    };
    assert_eq!(refused.text(), "Too many open files");
    assert!(handles.len() >= 30);
    assert_eq!(c.ask(CLOSE, &[s(&handles[0])]).code(), 0);
    let answer = c.ask(OPEN, &[s("f"), F::N(R), A::default().field()]);
    // The number of what was closed is not given to another.
    assert!(!handles.contains(&answer.handle()));
    assert_eq!(c.ask(READ, &[s(&handles[0]), F::L(0), F::N(1)]).code(), 4);
}

#[test]
fn the_record_says_who_did_what() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(OURS);
    command
        .args(["-e", "-l", "INFO", "-f", "AUTH"])
        .stderr(Stdio::piped());
    let mut c = Client::with(&mut command, folder.path());
    c.open(
        "f",
        "na\"me\n",
        R | W | CREAT,
        A {
            mode: Some(0o600),
            ..A::default()
        },
    );
    let h = c.h("f");
    c.ask(WRITE, &[h.clone(), F::L(0), s("12345")]);
    c.ask(READ, &[h.clone(), F::L(1), F::N(100)]);
    c.ask(CLOSE, &[h]);
    c.ask(RENAME, &[s("na\"me\n"), s("b")]);
    c.ask(MKDIR, &[s("d"), A::default().field()]);
    c.ask(
        SETSTAT,
        &[
            s("b"),
            A {
                mode: Some(0o644),
                size: Some(2),
                ..A::default()
            }
            .field(),
        ],
    );
    c.ask(REMOVE, &[s("none")]);
    c.opendir("d", "d");
    c.open("left open", "b", R, A::default());
    assert!(c.finish().success());
    let mut record = String::new();
    c.child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut record)
        .unwrap();
    let mut lines = record.lines();
    for expected in [
        "session opened for local user",
        r#"open "na\"me\n" flags READ,WRITE,CREATE mode 0600"#,
        r#"close "na\"me\n" bytes read 4 written 5"#,
        r#"rename old "na\"me\n" new "b""#,
        r#"mkdir name "d" mode 0777"#,
        r#"set "b" size 2"#,
        r#"set "b" mode 0644"#,
        r#"remove name "none""#,
        "sent status No such file or directory",
        r#"opendir "d""#,
    ] {
        assert!(
            lines.any(|line| line.contains(expected)),
            "{expected} in\n{record}"
        );
    }
    assert!(
        record.contains(r#"forced close ""#) && record.contains("forced closedir"),
        "{record}"
    );
    assert!(
        record
            .lines()
            .last()
            .unwrap()
            .contains("session closed for local user")
    );
    let mut quiet = Command::new(OURS);
    let mut c = Client::with(quiet.stderr(Stdio::piped()), folder.path());
    c.ask(REMOVE, &[s("none")]);
    assert!(c.finish().success());
    let mut record = String::new();
    c.child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut record)
        .unwrap();
    assert_eq!(record, "");
}

#[test]
fn a_stream_that_was_left_non_blocking_is_served() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), vec![3; 3_000_000]).unwrap();
    let mut child = Command::new(OURS)
        .current_dir(folder.path())
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(
            theirs.try_clone().unwrap(),
        )))
        .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let mut stream = ours;
    let mut ask = |body: Vec<u8>| {
        stream
            .write_all(&(body.len() as u32).to_be_bytes())
            .unwrap();
        stream.write_all(&body).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).unwrap();
        answer
    };
    ask(fields(&[F::B(INIT), F::N(3)]));
    let answer = ask(fields(&[
        F::B(OPEN),
        F::N(1),
        s("f"),
        F::N(R),
        A::default().field(),
    ]));
    for n in 0..10 {
        let body = fields(&[
            F::B(READ),
            F::N(2),
            s(&answer[9..]),
            F::L(n * 255 * 1024),
            F::N(255 * 1024),
        ]);
        assert_eq!(ask(body).len(), 255 * 1024 + 9);
    }
    drop(stream);
    assert!(wait(&mut child).success());
}

/// A user who may start no other thread is served by the one there is.
#[test]
fn without_any_other_thread() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("sftp-server");
    fs::copy(OURS, &program).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), open).unwrap();
    let mut limited = Command::new("setpriv");
    limited.args(["--reuid", "65533", "--regid", "65533", "--clear-groups"]);
    limited.args(["bash", "-c", "ulimit -u 1; exec ./sftp-server"]);
    if !nix::unistd::Uid::current().is_root() {
        println!("skipped: without_any_other_thread: becoming another user needs root");
        return;
    }
    let mut c = Client::with(&mut limited, folder.path());
    let ids: Vec<_> = (0..500).map(|_| c.send(STAT, &[s(".")])).collect();
    let mut answers: Vec<_> = ids.iter().map(|_| c.receive().id).collect();
    answers.sort_unstable();
    assert_eq!(answers, ids);
    let status = fs::read_to_string(format!("/proc/{}/status", c.child.id())).unwrap();
    assert!(status.contains("Threads:\t1\n"), "{status}");
    assert!(c.finish().success());
}

/// `reget` and `reput` of OpenSSH's client go on where an earlier transfer ended.
#[test]
fn transfers_are_resumed() {
    if Command::new("sftp").arg("-h").output().is_err() {
        println!("skipped: transfers_are_resumed: there is no sftp");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let content: Vec<u8> = (0..5_000_000u32).map(|n| (n / 3) as u8).collect();
    fs::write(at("whole"), &content).unwrap();
    for cut in [0, 1, 262_144, 4_999_999] {
        fs::write(at("got"), &content[..cut]).unwrap();
        fs::write(at("put"), &content[..cut]).unwrap();
        let batch = format!(
            "reget {0}/whole {0}/got\nreput {0}/whole {0}/put\n",
            folder.path().display()
        );
        fs::write(at("batch"), batch).unwrap();
        let output = Command::new("sftp")
            .args(["-D", OURS, "-b"])
            .arg(at("batch"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(fs::read(at("got")).unwrap() == content, "reget at {cut}");
        assert!(fs::read(at("put")).unwrap() == content, "reput at {cut}");
    }
}
