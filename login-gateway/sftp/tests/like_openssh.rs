//! The same requests to OpenSSH's sftp-server and to ours, in twin folders: types, codes,
//! attributes, names and data of all answers are the same.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(
    clippy::cloned_ref_to_slice_refs,
    reason = "fields of a packet are a list"
)]

mod support;

use std::fs;
use std::path::Path;

use support::*;

/// Runs a script on both and compares what they said, and what is in the folders afterwards.
fn check(arguments: &[&str], script: impl Fn(&mut Client)) {
    check_after(arguments, |_| {}, script);
}

fn check_after(arguments: &[&str], prepare: impl Fn(&Path), script: impl Fn(&mut Client)) {
    compare(arguments, arguments, prepare, script);
}

/// The same with ours inside a root, where only what lies above it may differ.
fn check_rooted(script: impl Fn(&mut Client)) {
    let confined = |c: &mut Client| {
        c.no_parent = true;
        script(c);
    };
    compare(&[], &["--root", "."], |_| {}, confined);
}

fn compare(
    arguments: &[&str],
    ours: &[&str],
    prepare: impl Fn(&Path),
    script: impl Fn(&mut Client),
) {
    if !Path::new(THEIRS).exists() {
        println!("skipped: like_openssh: there is no {THEIRS}");
        return;
    }
    let run = |program, arguments: &[&str]| {
        // What is done to `../..` is done to a folder of the test's own.
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("1/2/3/4/5/6/7/8/work");
        std::fs::create_dir_all(&folder).unwrap();
        prepare(&folder);
        let mut client = Client::start(program, arguments, &folder);
        script(&mut client);
        assert!(client.finish().success());
        let mut after = Client::start(THEIRS, &[], &folder);
        after.list(".");
        client.log.extend(after.log.iter().cloned());
        client.log.clone()
    };
    let (theirs, ours) = (run(THEIRS, arguments), run(OURS, ours));
    for (number, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
        assert_eq!(theirs, ours, "answer {number}, theirs left");
    }
    assert_eq!(theirs.len(), ours.len());
}

fn file(c: &mut Client, path: &str, content: &[u8]) {
    c.open("f", path, W | CREAT | TRUNC, A::default());
    let h = c.h("f");
    c.note("write", WRITE, &[h.clone(), F::L(0), s(content)]);
    c.note("close", CLOSE, &[h]);
    c.forget("f");
}

const NOBODY: F = F::Raw(Vec::new());

fn nobody() -> F {
    let _ = NOBODY;
    s([0x7f; 4])
}

#[test]
fn the_version_announces_the_same() {
    check(&[], |c| c.log.push(c.version.escape_ascii().to_string()));
    check(&["-R"], |c| {
        c.log.push(c.version.escape_ascii().to_string())
    });
    check(&["-P", "limits,statvfs"], |c| {
        c.log.push(c.version.escape_ascii().to_string())
    });
    check(&["-p", "hardlink"], |c| {
        c.log.push(c.version.escape_ascii().to_string())
    });
}

#[test]
fn every_flag_of_open() {
    let script = |c: &mut Client| {
        file(c, "there", b"content");
        c.note("mkdir", MKDIR, &[s("folder"), A::default().field()]);
        c.note("link", SYMLINK, &[s("there"), s("link")]);
        c.note("link", SYMLINK, &[s("nowhere"), s("dangling")]);
        c.note("link", SYMLINK, &[s("loop"), s("loop")]);
        for path in [
            "there",
            "missing",
            "folder",
            "link",
            "dangling",
            "loop",
            "there/x",
            "",
            "folder/new",
        ] {
            for flags in 0..64 {
                c.forget("x");
                c.open(
                    "x",
                    path,
                    flags,
                    A {
                        mode: Some(0o640),
                        ..A::default()
                    },
                );
                let h = c.h("x");
                c.note("read", READ, &[h.clone(), F::L(0), F::N(3)]);
                c.note("write", WRITE, &[h.clone(), F::L(1), s("y")]);
                c.note("fstat", FSTAT, &[h.clone()]);
                c.note("close", CLOSE, &[h]);
                for made in ["missing", "nowhere", "folder/new"] {
                    c.note("remove", REMOVE, &[s(made)]);
                }
            }
        }
    };
    check(&[], script);
    check_rooted(script);
}

#[test]
fn modes_of_new_files_and_folders() {
    for arguments in [&[][..], &["-u", "077"], &["-u", "0"]] {
        check(arguments, |c| {
            for mode in [
                0,
                0o644,
                0o4755,
                0o7777,
                0o1777,
                0o100_600,
                0o777_777,
                u32::MAX,
            ] {
                let a = A {
                    mode: Some(mode),
                    ..A::default()
                };
                c.forget("x");
                c.open("x", &format!("f{mode:o}"), W | CREAT, a);
                let h = c.h("x");
                c.note("fstat", FSTAT, &[h.clone()]);
                c.note("close", CLOSE, &[h]);
                let path = format!("d{mode:o}");
                c.note("mkdir", MKDIR, &[s(&path), a.field()]);
                c.note("stat", STAT, &[s(&path)]);
            }
            c.note("mkdir", MKDIR, &[s("plain"), A::default().field()]);
            c.note("mkdir", MKDIR, &[s("plain"), A::default().field()]);
            c.note("mkdir", MKDIR, &[s("no/plain"), A::default().field()]);
            c.note("mkdir", MKDIR, &[s(""), A::default().field()]);
            c.note("stat", STAT, &[s("plain")]);
        });
    }
}

#[test]
fn reading_and_writing() {
    check(&[], |c| {
        file(c, "f", b"0123456789");
        c.open("r", "f", R, A::default());
        c.open("rw", "f", R | W, A::default());
        c.open("w", "f", W, A::default());
        c.open("a", "f", W | APPEND, A::default());
        for (offset, length) in [
            (0, 10),
            (0, 4),
            (5, 100),
            (10, 1),
            (11, 5),
            (0, 0),
            (100, 0),
            (u64::MAX, 1),
            (1 << 63, 1),
            (0, u32::MAX),
        ] {
            for handle in ["r", "rw", "w", "a", "none"] {
                let h = c.h(handle);
                c.note(
                    &format!("read {handle}"),
                    READ,
                    &[h, F::L(offset), F::N(length)],
                );
            }
        }
        for (offset, data) in [
            (0, "ab"),
            (20, "far"),
            (5, ""),
            (u64::MAX, "x"),
            (1 << 63, "x"),
        ] {
            for handle in ["r", "rw", "w", "a", "none"] {
                let h = c.h(handle);
                c.note(
                    &format!("write {handle}"),
                    WRITE,
                    &[h.clone(), F::L(offset), s(data)],
                );
                c.note("fstat", FSTAT, &[h]);
            }
        }
        let h = c.h("r");
        c.note("all", READ, &[h, F::L(0), F::N(1000)]);
        for handle in ["r", "rw", "w", "a", "a"] {
            let h = c.h(handle);
            c.note("close", CLOSE, &[h]);
        }
    });
}

#[test]
fn the_largest_read_and_write() {
    check(&[], |c| {
        c.open("f", "f", R | W | CREAT, A::default());
        let h = c.h("f");
        let content: Vec<u8> = (0..255 * 1024u32).map(|n| (n % 251) as u8).collect();
        c.note("write", WRITE, &[h.clone(), F::L(7), s(&content)]);
        for length in [255 * 1024, 255 * 1024 + 1, 256 * 1024, 1 << 30] {
            let answer = c.ask(READ, &[h.clone(), F::L(0), F::N(length)]);
            c.log.push(format!("{}", answer.data().len()));
        }
        let answer = c.ask(READ, &[h.clone(), F::L(7), F::N(255 * 1024)]);
        assert!(answer.data() == content);
    });
}

#[test]
fn handles_of_the_wrong_kind_and_of_nobody() {
    check(&[], |c| {
        file(c, "f", b"x");
        c.open("file", "f", R, A::default());
        c.opendir("folder", ".");
        c.open("folder as file", ".", R, A::default());
        let other = [s(""), s("abc"), s([9; 300]), nobody(), s([0xff; 4])];
        let handles = ["file", "folder", "folder as file"].map(|h| c.h(h));
        for (number, h) in handles.into_iter().chain(other).enumerate() {
            let what = |what: &str| format!("{number} {what}");
            let a = A {
                mode: Some(0o600),
                ..A::default()
            };
            c.note(&what("read"), READ, &[h.clone(), F::L(0), F::N(1)]);
            c.note(&what("write"), WRITE, &[h.clone(), F::L(0), s("x")]);
            c.note(&what("fstat"), FSTAT, &[h.clone()]);
            c.note(&what("fsetstat"), FSETSTAT, &[h.clone(), a.field()]);
            c.note_extended(&what("fsync"), "fsync@openssh.com", &[h.clone()]);
            let answer = c.extended("fstatvfs@openssh.com", &[h.clone()]);
            c.log.push(what(&format!("fstatvfs {}", answer.kind)));
            if number != 1 {
                c.note(&what("readdir"), READDIR, &[h.clone()]);
            }
            for _ in 0..2 {
                c.note(&what("close"), CLOSE, &[h.clone()]);
            }
        }
    });
}

#[test]
fn attributes_by_path_and_by_handle() {
    let script = |c: &mut Client| {
        file(c, "f", b"0123456789");
        c.note("mkdir", MKDIR, &[s("d"), A::default().field()]);
        c.note("link", SYMLINK, &[s("f"), s("l")]);
        c.note("link", SYMLINK, &[s("none"), s("dangling")]);
        let a = A::default();
        let wanted = [
            a,
            A { size: Some(4), ..a },
            A {
                size: Some(40),
                ..a
            },
            A {
                size: Some(u64::MAX),
                ..a
            },
            A {
                size: Some(1 << 63),
                ..a
            },
            A {
                mode: Some(0o4711),
                ..a
            },
            A {
                mode: Some(0o100_644),
                ..a
            },
            A {
                times: Some((1_000_000_000, 1_100_000_000)),
                ..a
            },
            A {
                times: Some((u32::MAX, u32::MAX)),
                ..a
            },
            A {
                times: Some((0, 0)),
                ..a
            },
            A {
                owner: Some((u32::MAX, u32::MAX)),
                ..a
            },
            A {
                owner: Some((0, 0)),
                ..a
            },
            A {
                size: Some(3),
                mode: Some(0o600),
                times: Some((5, 6)),
                owner: Some((0, 0)),
            },
        ];
        for (number, a) in wanted.iter().enumerate() {
            for path in ["f", "d", "l", "dangling", "missing", "f/x", ""] {
                // A size that is none is seen before or after a path that leads nowhere.
                if c.no_parent && a.size.is_some_and(|size| size > 1 << 62) {
                    continue;
                }
                let what = |what: &str| format!("{what} {number} {path}");
                c.note(&what("setstat"), SETSTAT, &[s(path), a.field()]);
                c.note(&what("stat"), STAT, &[s(path)]);
                c.note_extended(
                    &what("lsetstat"),
                    "lsetstat@openssh.com",
                    &[s(path), a.field()],
                );
                c.note(&what("lstat"), LSTAT, &[s(path)]);
            }
            for flags in [R, W, R | W] {
                c.open("x", "f", flags, A::default());
                let h = c.h("x");
                c.note(
                    &format!("fsetstat {number}"),
                    FSETSTAT,
                    &[h.clone(), a.field()],
                );
                c.note("fstat", FSTAT, &[h.clone()]);
                c.note("close", CLOSE, &[h]);
            }
        }
        let mut extended = fields(&[F::N(0x8000_0004), F::N(0o640), F::N(1)]);
        extended.extend(fields(&[s("kind"), s("value")]));
        c.note("extended", SETSTAT, &[s("f"), F::Raw(extended)]);
        c.note("unknown flags", SETSTAT, &[s("f"), F::N(0x70)]);
        c.note("stat", STAT, &[s("f")]);
    };
    check(&[], script);
    check_rooted(script);
}

#[test]
fn renaming_linking_removing() {
    let script = |c: &mut Client| {
        let everything = |c: &mut Client| {
            file(c, "f", b"one");
            file(c, "g", b"two");
            c.note("mkdir", MKDIR, &[s("d"), A::default().field()]);
            c.note("mkdir", MKDIR, &[s("e"), A::default().field()]);
            file(c, "e/in", b"three");
            c.note("link", SYMLINK, &[s("f"), s("l")]);
            c.note("link", SYMLINK, &[s("none"), s("x")]);
        };
        let names = [
            "f", "g", "d", "e", "l", "x", "new", "e/in", "d/new", "f/no", "no/no", "", ".", "d/",
            "f/", "new/",
        ];
        for how in [
            "rename",
            "posix-rename@openssh.com",
            "hardlink@openssh.com",
            "symlink",
        ] {
            for old in names {
                for new in names {
                    everything(c);
                    let what = format!("{how} {old} {new}");
                    let parts = [s(old), s(new)];
                    match how {
                        "rename" => c.note(&what, RENAME, &parts),
                        "symlink" => c.note(&what, SYMLINK, &parts),
                        _ => c.note_extended(&what, how, &parts),
                    };
                    c.list(".");
                    for path in ["d/new", "d/in", "d/g", "e/in", "e/new"]
                        .into_iter()
                        .chain(names)
                    {
                        c.note(&format!("remove {path}"), REMOVE, &[s(path)]);
                    }
                    for path in ["d/e", "d/d", "e/d", "d", "e", "new", "f", "x", "l", "g"] {
                        c.note(&format!("rmdir {path}"), RMDIR, &[s(path)]);
                    }
                    c.list(".");
                }
            }
        }
    };
    check(&[], script);
    check_rooted(script);
}

#[test]
fn real_paths() {
    check(&[], |c| {
        file(c, "f", b"");
        c.note("mkdir", MKDIR, &[s("d"), A::default().field()]);
        let folder = c.folder.to_str().unwrap().to_owned();
        for (target, link) in [
            ("d", "to-d"),
            ("f", "to-f"),
            ("none", "dangling"),
            ("self", "self"),
            ("d/", "slash"),
            (&folder, "absolute"),
            ("../..", "up"),
            ("to-d/../f", "through"),
            ("no/ne", "deep"),
        ] {
            c.note("link", SYMLINK, &[s(target), s(link)]);
        }
        for n in 0..40 {
            let target = if n == 0 {
                "f".to_owned()
            } else {
                format!("chain{}", n - 1)
            };
            c.note("link", SYMLINK, &[s(target), s(format!("chain{n}"))]);
        }
        let long = "x/".repeat(2100);
        let name = "n".repeat(300);
        let mut paths: Vec<String> = [
            "",
            ".",
            "..",
            "/",
            "//",
            "///",
            "/.",
            "/..",
            "/../..",
            "./",
            "f",
            "./f",
            "f/",
            "f/.",
            "f/..",
            "f/x",
            "f/../d",
            "d",
            "d/",
            "d/.",
            "d/..",
            "d/../d/../f",
            "d//",
            "d///x",
            "none",
            "none/",
            "none/x",
            "none/..",
            "d/none",
            "d/none/none",
            "to-d",
            "to-d/",
            "to-d/none",
            "to-d/..",
            "to-f",
            "to-f/",
            "dangling",
            "dangling/",
            "self",
            "self/",
            "slash",
            "slash/x",
            "absolute",
            "absolute/d",
            "up",
            "up/none",
            "through",
            "deep",
            "/dev/null",
            "/proc/self/root",
            "b\u{e4}r",
            "chain30",
            "chain31",
            "chain32",
            "chain33",
            "chain34",
            "chain39",
        ]
        .map(str::to_owned)
        .into();
        paths.extend([
            long,
            name,
            format!("{folder}/d"),
            format!("{folder}/./to-d/.."),
        ]);
        for path in &paths {
            let shown = path.replace(&folder, "<folder>");
            c.note(&format!("realpath {shown}"), REALPATH, &[s(path)]);
            c.note(&format!("readlink {shown}"), READLINK, &[s(path)]);
            c.note_extended(
                &format!("expand {shown}"),
                "expand-path@openssh.com",
                &[s(path)],
            );
        }
        for path in [
            "~",
            "~/",
            "~/d",
            "~/none",
            "~root",
            "~root/",
            "~root/x",
            "~nobody-has-this-name",
            "~daemon/x",
            "d/~",
        ] {
            c.note_extended(
                &format!("expand {path}"),
                "expand-path@openssh.com",
                &[s(path)],
            );
        }
    });
}

#[test]
fn folders() {
    let prepare = |folder: &Path| {
        use std::os::unix::ffi::OsStrExt;
        std::fs::create_dir(folder.join("many")).unwrap();
        for n in 0..500 {
            std::fs::write(folder.join(format!("many/a file with number {n}")), "x").unwrap();
        }
        let odd = std::ffi::OsStr::from_bytes(b"many/b\xe4r \"\n\\");
        std::fs::write(folder.join(odd), "latin").unwrap();
        std::fs::create_dir(folder.join("empty")).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        std::os::unix::fs::symlink("empty", folder.join("link")).unwrap();
        nix::unistd::mkfifo(&folder.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let old = nix::sys::time::TimeVal::new(1_000_000_000, 0);
        nix::sys::stat::utimes(&folder.join("file"), &old, &old).unwrap();
    };
    check_after(&[], prepare, |c| {
        for path in [
            "many", "empty", "file", "link", "fifo", "none", "", ".", "/usr", "/usr/bin", "link/",
        ] {
            c.list(path);
        }
        c.opendir("d", "empty");
        let h = c.h("d");
        for _ in 0..3 {
            c.note("readdir again", READDIR, &[h.clone()]);
        }
        c.note("stat", STAT, &[F::S(b"many/b\xe4r \"\n\\".to_vec())]);
        c.note("remove", REMOVE, &[F::S(b"many/b\xe4r \"\n\\".to_vec())]);
    });
}

#[test]
fn extensions() {
    check(&[], |c| {
        file(c, "f", b"content");
        for path in [".", "f", "none", "", "/proc"] {
            let answer = c.extended("statvfs@openssh.com", &[s(path)]);
            // Block sizes, file system, flags and longest name stay the same while others write.
            let text = if answer.kind == REPLY {
                format!("{:?} {:?}", &answer.body[..24], &answer.body[64..])
            } else {
                c.text(&answer)
            };
            c.log.push(format!("statvfs {path} {text}"));
        }
        c.open("h", "f", R, A::default());
        let h = c.h("h");
        let answer = c.extended("fstatvfs@openssh.com", &[h.clone()]);
        c.log
            .push(format!("{:?} {:?}", &answer.body[..24], &answer.body[64..]));
        c.note_extended("fsync", "fsync@openssh.com", &[h]);
        c.note_extended("limits", "limits@openssh.com", &[]);
        let me = nix::unistd::User::from_uid(nix::unistd::Uid::current())
            .unwrap()
            .unwrap()
            .name;
        c.note_extended("home", "home-directory", &[s(me)]);
        c.note_extended("home", "home-directory", &[s("nobody-has-this-name")]);
        let ids = |ids: &[u32]| F::S(ids.iter().flat_map(|n| n.to_be_bytes()).collect());
        for (users, groups) in [
            (&[0, 1, 4_000_000_000, 0][..], &[0, 4, 4_000_000_001][..]),
            (&[], &[]),
            (&[65534], &[]),
            (&[], &[100]),
        ] {
            c.note_extended(
                "people",
                "users-groups-by-id@openssh.com",
                &[ids(users), ids(groups)],
            );
        }
        c.note_extended("nothing", "nothing@example.org", &[s("x")]);
        c.note_extended("nothing", "", &[]);
    });
}

#[test]
fn copies() {
    let script = |c: &mut Client| {
        let content: Vec<u8> = (0..200_000u32).map(|n| (n % 253) as u8).collect();
        file(c, "from", &content);
        for (offset, length, to) in [
            (0, 0, 0),
            (0, 10, 0),
            (5, 0, 7),
            (0, 200_000, 0),
            (0, 200_001, 0),
            (199_999, 5, 0),
            (0, 300_000, 0),
            (0, 265_000, 0),
            (65_536, 200_000, 3),
            (200_000, 10, 0),
            (200_000, 0, 0),
            (200_000, 100_000, 0),
            (300_000, 1, 0),
            (1 << 63, 1, 0),
            (0, 1, 1 << 63),
            (u64::MAX, 0, 0),
            (0, u64::MAX, 0),
            (0, 1 << 63, 0),
        ] {
            // Not into what is open for reading: OpenSSH calls a failed write of the last 64 KiB a success.
            for flags in [W | CREAT | TRUNC, W | CREAT | APPEND] {
                c.open("from", "from", R, A::default());
                c.open("to", "to", flags, A::default());
                let (from, h) = (c.h("from"), c.h("to"));
                let what = format!("copy {offset} {length} {to} {flags:x}");
                let parts = [
                    from.clone(),
                    F::L(offset),
                    F::L(length),
                    h.clone(),
                    F::L(to),
                ];
                c.note_extended(&what, "copy-data", &parts);
                c.note("fstat", FSTAT, &[h.clone()]);
                c.note("close", CLOSE, &[h]);
                c.note("close", CLOSE, &[from]);
                c.open("r", "to", R, A::default());
                let h = c.h("r");
                c.note("read", READ, &[h.clone(), F::L(0), F::N(255 * 1024)]);
                c.note("close", CLOSE, &[h]);
            }
        }
        c.open("from", "from", R | W, A::default());
        c.open("again", "from", R | W, A::default());
        c.opendir("d", ".");
        for (from, to) in [
            ("from", "from"),
            ("from", "again"),
            ("d", "from"),
            ("from", "d"),
            ("none", "from"),
            ("from", "none"),
        ] {
            let parts = [c.h(from), F::L(0), F::L(1), c.h(to), F::L(0)];
            c.note_extended(&format!("copy {from} {to}"), "copy-data", &parts);
        }
        // Special files have no size.
        c.open("null", "/dev/null", R | W, A::default());
        c.open("zero", "/dev/zero", R, A::default());
        c.open("stat", "/proc/version", R, A::default());
        c.open("to", "special", R | W | CREAT, A::default());
        for (from, length, to) in [
            ("null", 0, "to"),
            ("zero", 100_000, "to"),
            ("stat", 0, "to"),
            ("from", 0, "null"),
        ] {
            let parts = [c.h(from), F::L(0), F::L(length), c.h(to), F::L(0)];
            c.note_extended(&format!("copy {from}"), "copy-data", &parts);
            let h = c.h("to");
            c.note("fstat", FSTAT, &[h]);
        }
    };
    check(&[], script);
}

#[test]
fn read_only_and_lists() {
    let all = |c: &mut Client| {
        for flags in 0..64 {
            c.open("x", "file", flags, A::default());
            let h = c.h("x");
            c.note("write", WRITE, &[h.clone(), F::L(0), s("")]);
            c.note("fsync", EXTENDED, &[s("fsync@openssh.com"), h.clone()]);
            c.note("close", CLOSE, &[h]);
        }
        let a = A {
            mode: Some(0o600),
            ..A::default()
        }
        .field();
        c.note("setstat", SETSTAT, &[s("file"), a.clone()]);
        c.note("fsetstat", FSETSTAT, &[nobody(), a.clone()]);
        c.note("remove", REMOVE, &[s("file2")]);
        c.note("mkdir", MKDIR, &[s("new"), a.clone()]);
        c.note("rmdir", RMDIR, &[s("folder")]);
        c.note("rename", RENAME, &[s("file"), s("other")]);
        c.note("symlink", SYMLINK, &[s("file"), s("link")]);
        c.note_extended(
            "posix",
            "posix-rename@openssh.com",
            &[s("file"), s("third")],
        );
        c.note_extended("hardlink", "hardlink@openssh.com", &[s("file"), s("hard")]);
        c.note_extended("lsetstat", "lsetstat@openssh.com", &[s("file"), a]);
        c.note_extended("limits", "limits@openssh.com", &[]);
        let copy = [nobody(), F::L(0), F::L(0), nobody(), F::L(0)];
        c.note_extended("copy", "copy-data", &copy);
        c.note("stat", STAT, &[s("file")]);
        c.list(".");
    };
    let prepare = |folder: &Path| {
        std::fs::write(folder.join("file"), "content").unwrap();
        std::fs::write(folder.join("file2"), "content").unwrap();
        std::fs::create_dir(folder.join("folder")).unwrap();
    };
    for arguments in [
        &["-R"][..],
        &["-P", "remove,rename,hardlink,open"],
        &["-p", "open,close,stat,opendir,readdir"],
        &["-p", "open,close,remove,opendir,readdir", "-P", "remove"],
        &["-R", "-p", "remove,stat"],
    ] {
        check_after(arguments, prepare, all);
    }
}

#[test]
fn long_paths_loops_and_holes() {
    check(&[], |c| {
        file(c, "f", b"content");
        for (link, target) in [
            ("one", "two"),
            ("two", "one"),
            ("self", "self"),
            ("in", "self/x"),
        ] {
            c.note("link", SYMLINK, &[s(target), s(link)]);
        }
        // 40 links in a row are followed, 41 are not.
        c.note("link", SYMLINK, &[s("f"), s("l0")]);
        for n in 1..=41 {
            let parts = [s(format!("l{}", n - 1)), s(format!("l{n}"))];
            c.note("link", SYMLINK, &parts);
        }
        let name = |length| "n".repeat(length);
        let path = |length: usize| format!("{}f", "./".repeat((length - 1) / 2));
        let paths = [
            "one", "self", "in", "one/x", "l38", "l39", "l40", "l41", "l41/x",
        ];
        let paths = paths.map(str::to_owned).into_iter();
        let lengths = [
            name(255),
            name(256),
            path(1023),
            path(4095),
            path(4097),
            path(60_001),
        ];
        for path in paths.chain(lengths) {
            let what = format!("{:.8} {}", path, path.len());
            for kind in [STAT, LSTAT, READLINK, REALPATH, OPENDIR] {
                c.note(&format!("{kind} {what}"), kind, &[s(&path)]);
            }
            c.open("h", &path, R, A::default());
            let mode = A {
                mode: Some(0o600),
                ..A::default()
            };
            c.note(&format!("set {what}"), SETSTAT, &[s(&path), mode.field()]);
            let parts = [s(&path), s(format!("{path}x"))];
            c.note(&format!("rename {what}"), RENAME, &parts);
            c.note_extended(
                &format!("statvfs {what}"),
                "lsetstat@openssh.com",
                &[s(&path), mode.field()],
            );
            c.note(&format!("remove {what}"), REMOVE, &[s(&path)]);
        }
        // Folders in folders, until no path leads to the last one.
        let mut deep = String::new();
        for n in 0..20 {
            deep.push_str(&name(250));
            c.note(
                &format!("mkdir {n}"),
                MKDIR,
                &[s(&deep), A::default().field()],
            );
            deep.push('/');
        }
        c.open("hole", "hole", R | W | CREAT, A::default());
        let h = c.h("hole");
        for at in [0, 1 << 20, (1 << 40) + 5] {
            c.note("write", WRITE, &[h.clone(), F::L(at), s("island")]);
        }
        let reads = [
            (0, 10),
            (6, 100),
            ((1 << 20) - 3, 6),
            (1 << 39, 1000),
            ((1 << 40) + 5, 9),
        ];
        for (at, length) in reads {
            c.note(
                &format!("read {at}"),
                READ,
                &[h.clone(), F::L(at), F::N(length)],
            );
        }
        for at in [u64::MAX, 1 << 63, (1 << 63) - 1, (1 << 40) + 11] {
            c.note(
                &format!("read {at}"),
                READ,
                &[h.clone(), F::L(at), F::N(10)],
            );
            if at > 1 << 41 {
                c.note(
                    &format!("write {at}"),
                    WRITE,
                    &[h.clone(), F::L(at), s("x")],
                );
            }
        }
        c.note("fstat", FSTAT, &[h.clone()]);
        let cut = A {
            size: Some(7),
            ..A::default()
        };
        c.note("cut", FSETSTAT, &[h.clone(), cut.field()]);
        c.note("read", READ, &[h.clone(), F::L(0), F::N(10)]);
        // Gone from its folder, and there as long as it is open; then nobody's.
        c.note("remove", REMOVE, &[s("hole")]);
        c.note("read", READ, &[h.clone(), F::L(0), F::N(10)]);
        for kind in [CLOSE, CLOSE, READ, FSTAT] {
            c.note(
                &format!("after {kind}"),
                kind,
                &[h.clone(), F::L(0), F::N(10)],
            );
        }
    });
}

#[test]
fn a_folder_of_100_000() {
    let make = |folder: &Path| {
        fs::create_dir(folder.join("many")).unwrap();
        for n in 0..100_000 {
            let file = folder.join("many").join(format!("{n:x}\u{e9}"));
            fs::File::create(file).unwrap();
        }
    };
    check_after(&[], make, |c| {
        c.list("many");
        c.note("stat", STAT, &[s("many/1869f\u{e9}")]);
        c.note("rmdir", RMDIR, &[s("many")]);
        // The comparison of what is left needs no more of them.
        fs::remove_dir_all(c.folder.join("many")).unwrap();
        c.list(".");
    });
}

/// Requests by chance on a few names, with a seed that is printed.
#[test]
fn by_chance() {
    for seed in 1..=60u64 {
        println!("seed {seed}");
        check(&[], |c| chance(c, seed, 16));
        check_rooted(|c| chance(c, seed, 13));
    }
}

/// On the first `known` names; those behind lead above the root.
fn chance(c: &mut Client, seed: u64, known: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut any = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    let names = [
        "a", "b", "c", "d", "d/a", "d/b", "e", "e/d", "l", "d/l", "a/x", ".", "", "..", "./d/../a",
        "l/a",
    ];
    let handles = ["h0", "h1", "h2", "h3"];
    for step in 0..300 {
        let path = names[any(known) as usize];
        let other = names[any(known) as usize];
        let handle = handles[any(4) as usize];
        let a = A {
            size: (any(3) == 0).then(|| any(200_000)),
            owner: None,
            mode: (any(2) == 0).then(|| (any(0o1000) | 0o700) as u32),
            times: (any(3) == 0).then(|| (any(1 << 31) as u32 / 2, any(1 << 31) as u32 / 2)),
        };
        let what = format!("{step} {path} {other} {handle}");
        let h = c.h(handle);
        match any(24) {
            0..=3 => {
                let flags = any(64) as u32;
                c.forget(handle);
                c.open(
                    handle,
                    path,
                    flags,
                    A {
                        mode: a.mode,
                        ..A::default()
                    },
                );
            }
            4 => {
                c.note(&format!("close {what}"), CLOSE, &[h]);
                c.forget(handle);
            }
            5 | 6 => {
                c.note(
                    &format!("read {what}"),
                    READ,
                    &[h, F::L(any(1000)), F::N(any(400) as u32)],
                );
            }
            7..=9 => {
                let data = vec![b'a' + any(26) as u8; any(300) as usize];
                c.note(
                    &format!("write {what}"),
                    WRITE,
                    &[h, F::L(any(1000)), s(data)],
                );
            }
            10 => {
                c.note(&format!("fsetstat {what}"), FSETSTAT, &[h, a.field()]);
            }
            11 => {
                c.note(&format!("fstat {what}"), FSTAT, &[h]);
            }
            12 => {
                c.note(&format!("setstat {what}"), SETSTAT, &[s(path), a.field()]);
            }
            13 => {
                let parts = [s(path), a.field()];
                c.note_extended(&format!("lsetstat {what}"), "lsetstat@openssh.com", &parts);
            }
            14 => {
                c.note(&format!("mkdir {what}"), MKDIR, &[s(path), a.field()]);
            }
            15 => {
                c.note(&format!("rmdir {what}"), RMDIR, &[s(path)]);
            }
            16 => {
                c.note(&format!("remove {what}"), REMOVE, &[s(path)]);
            }
            17 => {
                c.note(&format!("rename {what}"), RENAME, &[s(path), s(other)]);
            }
            18 => {
                let parts = [s(path), s(other)];
                c.note_extended(&format!("posix {what}"), "posix-rename@openssh.com", &parts);
            }
            19 => {
                let parts = [s(path), s(other)];
                c.note_extended(&format!("hardlink {what}"), "hardlink@openssh.com", &parts);
            }
            20 => {
                c.note(&format!("symlink {what}"), SYMLINK, &[s(path), s(other)]);
            }
            21 => {
                if !c.no_parent {
                    c.note(&format!("realpath {what}"), REALPATH, &[s(path)]);
                }
                c.note(&format!("readlink {what}"), READLINK, &[s(path)]);
            }
            22 => {
                let to = c.h(handles[any(4) as usize]);
                let parts = [h, F::L(any(500)), F::L(any(500)), to, F::L(any(500))];
                // OpenSSH hides failed writes of the last 64 KiB; what is in the files is seen later.
                c.extended("copy-data", &parts);
            }
            _ => {
                c.note(&format!("stat {what}"), STAT, &[s(path)]);
                c.note(&format!("lstat {what}"), LSTAT, &[s(path)]);
                if path != ".." {
                    c.list(path);
                }
            }
        }
    }
}
