//! `--root`: what is inside looks as it does without one, and nothing leads outside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::*;

/// A root with a secret beside it.
struct World {
    _folder: tempfile::TempDir,
    root: PathBuf,
    secret: PathBuf,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().canonicalize().unwrap();
    let root = base.join("root");
    fs::create_dir(&root).unwrap();
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("inside"), "inside").unwrap();
    fs::create_dir(base.join("outside")).unwrap();
    let secret = base.join("outside/secret");
    fs::write(&secret, "secret").unwrap();
    World {
        _folder: folder,
        root,
        secret,
    }
}

fn start(world: &World, more: &[&str]) -> Client {
    let mut arguments = vec!["--root", world.root.to_str().unwrap()];
    arguments.extend(more);
    Client::start(OURS, &arguments, world.root.parent().unwrap())
}

/// Every way to say "the secret", seen from inside.
fn ways_out(world: &World) -> Vec<String> {
    let secret = world.secret.to_str().unwrap();
    let up = "../".repeat(20);
    let mut ways = vec![
        secret.to_owned(),
        "../outside/secret".to_owned(),
        "/../outside/secret".to_owned(),
        "sub/../../outside/secret".to_owned(),
        format!("{up}{secret}"),
        format!("//{secret}"),
    ];
    for (link, target) in [
        ("absolute", secret.to_owned()),
        ("relative", "../outside/secret".to_owned()),
        ("folder", "../outside".to_owned()),
        (
            "absolute-folder",
            world.secret.parent().unwrap().to_str().unwrap().to_owned(),
        ),
        ("up", "..".to_owned()),
        ("proc", "/proc/self/root".to_owned()),
        ("fd", "/proc/self/cwd/outside/secret".to_owned()),
        ("chain", "up/outside".to_owned()),
    ] {
        symlink(target, world.root.join(link)).unwrap();
    }
    for link in [
        "absolute",
        "relative",
        "fd",
        "up/outside/secret",
        "folder/secret",
    ] {
        ways.push(link.to_owned());
        ways.push(format!("sub/../{link}"));
        ways.push(format!("{link}/"));
    }
    for link in [
        "absolute-folder/secret",
        "chain/secret",
        "sub/../up/../outside/secret",
    ] {
        ways.push(link.to_owned());
    }
    ways.push(format!("proc{secret}"));
    ways.push(format!("proc/{up}{secret}"));
    ways
}

#[test]
fn nothing_leads_outside() {
    let world = world();
    let before = fs::metadata(&world.secret).unwrap();
    let ways = ways_out(&world);
    let mut c = start(&world, &[]);
    let a = A {
        mode: Some(0o777),
        size: Some(0),
        times: Some((1, 1)),
        owner: Some((1, 1)),
    };
    for way in &ways {
        for flags in [R, W, R | W | CREAT, W | TRUNC] {
            c.forget("x");
            c.open("x", way, flags, A::default());
            let h = c.h("x");
            let read = c.ask(READ, &[h.clone(), F::L(0), F::N(100)]);
            assert!(read.kind == STATUS || read.data() != b"secret", "{way}");
            c.ask(CLOSE, &[h]);
            c.ask(REMOVE, &[s(way)]);
        }
        c.ask(SETSTAT, &[s(way), a.field()]);
        c.extended(
            "lsetstat@openssh.com",
            &[s(way), A { size: None, ..a }.field()],
        );
        for (kind, parts) in [
            (STAT, vec![s(way)]),
            (LSTAT, vec![s(way)]),
            (OPENDIR, vec![s(way)]),
            (MKDIR, vec![s(way), a.field()]),
            (RMDIR, vec![s(way)]),
            (REMOVE, vec![s(way)]),
            (RENAME, vec![s(way), s("taken")]),
            (RENAME, vec![s("inside"), s(way)]),
            (SYMLINK, vec![s("x"), s(way)]),
        ] {
            let answer = c.ask(kind, &parts);
            if answer.kind == ATTRS {
                let size = u64::from_be_bytes(answer.body[4..12].try_into().unwrap());
                assert_ne!((kind, size), (STAT, 6), "{way}");
            }
        }
        for name in ["posix-rename@openssh.com", "hardlink@openssh.com"] {
            c.extended(name, &[s(way), s("taken2")]);
            c.extended(name, &[s("sub"), s(way)]);
        }
        c.extended("statvfs@openssh.com", &[s(way)]);
        for name in ["taken", "taken2"] {
            let path = world.root.join(name);
            assert!(
                fs::read(&path).map_or(true, |content| content != b"secret"),
                "{way}"
            );
            let _ = fs::remove_file(&path);
        }
    }
    let after = fs::metadata(&world.secret).unwrap();
    assert_eq!(fs::read(&world.secret).unwrap(), b"secret");
    assert_eq!(
        (
            before.mode(),
            before.nlink(),
            before.uid(),
            before.mtime(),
            before.ino()
        ),
        (
            after.mode(),
            after.nlink(),
            after.uid(),
            after.mtime(),
            after.ino()
        )
    );
    let outside: Vec<_> = fs::read_dir(world.secret.parent().unwrap())
        .unwrap()
        .collect();
    assert_eq!(outside.len(), 1);
}

#[test]
fn the_root_is_a_root() {
    let world = world();
    symlink("/inside", world.root.join("absolute")).unwrap();
    symlink("../../../../../inside", world.root.join("sub/high")).unwrap();
    let mut c = start(&world, &["-d", "/sub"]);
    assert_eq!(c.ask(REALPATH, &[s(".")]).name(), b"/sub");
    assert_eq!(c.ask(REALPATH, &[s("../..")]).name(), b"/");
    assert_eq!(c.ask(REALPATH, &[s("/absolute")]).name(), b"/inside");
    assert_eq!(c.ask(REALPATH, &[s("high")]).name(), b"/inside");
    assert_eq!(c.ask(READLINK, &[s("/absolute")]).name(), b"/inside");
    assert_eq!(c.ask(READLINK, &[s("/inside")]).code(), 5);
    assert_eq!(
        c.extended("expand-path@openssh.com", &[s("~/x")]).name(),
        b"/sub/x"
    );
    for path in ["/absolute", "high", "../absolute", "/../../inside"] {
        c.open("x", path, R, A::default());
        let h = c.h("x");
        assert_eq!(
            c.ask(READ, &[h.clone(), F::L(0), F::N(100)]).data(),
            b"inside",
            "{path}"
        );
        assert_eq!(c.ask(CLOSE, &[h]).code(), 0);
        c.forget("x");
    }
    // What lies above the root has the root's attributes.
    let attributes = |c: &mut Client, path: &str| c.ask(STAT, &[s(path)]).body;
    assert_eq!(attributes(&mut c, "/"), attributes(&mut c, "/.."));
    c.opendir("d", "/");
    let h = c.h("d");
    let names = c.ask(READDIR, &[h]);
    let size = fs::metadata(&world.root).unwrap().ino();
    assert!(size > 0 && names.names().contains(&b"..".to_vec()));
    let outer = fs::metadata(world.root.parent().unwrap()).unwrap();
    assert_ne!(outer.nlink(), fs::metadata(&world.root).unwrap().nlink());
    let text = c.text(&names);
    let line = text.split("; ").find(|l| l.contains(".. [")).unwrap();
    let own = text
        .split("; ")
        .find(|l| l.contains(" . [") || l.starts_with("names . ["))
        .unwrap();
    let part = |line: &str| {
        line.split('[')
            .nth(1)
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(part(line), part(own));
    // Changing works, through links too.
    let a = A {
        mode: Some(0o600),
        times: Some((7, 8)),
        size: Some(3),
        ..A::default()
    };
    assert_eq!(c.ask(SETSTAT, &[s("high"), a.field()]).code(), 0);
    let inside = fs::metadata(world.root.join("inside")).unwrap();
    assert_eq!(
        (inside.len(), inside.mode() & 0o777, inside.mtime()),
        (3, 0o600, 8)
    );
    assert!(c.extended("statvfs@openssh.com", &[s("/")]).kind == REPLY);
}

#[test]
fn a_root_that_is_none_is_refused() {
    let world = world();
    for (root, start) in [
        ("/nonexistent", "/"),
        (world.root.to_str().unwrap(), "/none"),
    ] {
        let output = std::process::Command::new(OURS)
            .args(["--root", root, "-d", start])
            .output()
            .unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.contains("enter root") && text.contains("hint: "),
            "{text}"
        );
    }
}

/// While names inside are exchanged for links that point outside, nothing outside is ever seen.
#[test]
fn not_even_in_a_race() {
    let world = world();
    fs::create_dir_all(world.root.join("a/b/c")).unwrap();
    fs::create_dir(world.root.join("swap")).unwrap();
    fs::write(world.root.join("swap/secret"), "inside").unwrap();
    symlink("../outside", world.root.join("link")).unwrap();
    symlink(world.secret.parent().unwrap(), world.root.join("link2")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (root, stopped) = (world.root.clone(), Arc::clone(&stop));
    let racer = std::thread::spawn(move || {
        let at = |name: &str| root.join(name);
        while !stopped.load(Ordering::Relaxed) {
            for link in ["link", "link2"] {
                let _ = fs::rename(at("swap"), at("kept"));
                let _ = fs::rename(at(link), at("swap"));
                let _ = fs::rename(at("a/b/c"), at("c"));
                let _ = fs::rename(at("swap"), at(link));
                let _ = fs::rename(at("kept"), at("swap"));
                let _ = fs::rename(at("c"), at("a/b/c"));
            }
        }
    });
    let mut c = start(&world, &[]);
    let mut seen = 0;
    for _ in 0..3000 {
        for path in [
            "swap/secret",
            "a/b/c/../../../../outside/secret",
            "a/b/c/../../../swap/secret",
        ] {
            c.forget("x");
            c.open("x", path, R, A::default());
            c.log.clear();
            let h = c.h("x");
            let answer = c.ask(READ, &[h.clone(), F::L(0), F::N(100)]);
            if answer.kind == DATA {
                assert_eq!(answer.data(), b"inside");
                seen += 1;
            }
            c.ask(CLOSE, &[h]);
            c.ask(
                SETSTAT,
                &[
                    s(path),
                    A {
                        mode: Some(0o604),
                        ..A::default()
                    }
                    .field(),
                ],
            );
            c.ask(REMOVE, &[s("swap/nothing")]);
        }
    }
    stop.store(true, Ordering::Relaxed);
    racer.join().unwrap();
    assert!(seen > 0);
    assert_ne!(fs::metadata(&world.secret).unwrap().mode() & 0o777, 0o604);
}
