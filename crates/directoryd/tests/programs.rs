//! Programs of other libcs, threads and children: a static glibc and a static musl, neither of which loads a module.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use support::{Lab, Settings, has_peers};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/names.c");

/// The program, by this compiler; says so by name if there is none.
fn built(test: &str, lab: &Lab, compiler: &str, options: &[&str]) -> Option<PathBuf> {
    let program = lab.path(&format!("names.{compiler}{}", options.concat()));
    let done = Command::new(compiler)
        .args(options)
        .args(["-O1", "-pthread", "-w", "-o"])
        .args([program.as_os_str(), SOURCE.as_ref()])
        .output();
    match done {
        Ok(output) if output.status.success() => Some(program),
        _ => {
            println!(
                "skipped {test}: '{compiler} {}' does not build",
                options.concat()
            );
            None
        }
    }
}

const COMPILERS: [(&str, &[&str]); 3] = [
    ("cc", &[]),
    ("cc", &["-static"]),
    ("musl-gcc", &["-static"]),
];

#[test]
fn static_programs_know_everybody() {
    let test = "static_programs_know_everybody";
    if !has_peers(test) {
        return;
    }
    let lab = Lab::running(Settings::default());
    for (compiler, options) in COMPILERS {
        let Some(program) = built(test, &lab, compiler, options) else {
            continue;
        };
        let output = lab
            .program(&program)
            .args(["show", "bob", "science"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{compiler} {options:?}: {text}");
        let (user, rest) = text.trim_end().split_once(' ').unwrap();
        assert_eq!(
            user, "bob:1501:1500:/home/bob:/bin/bash",
            "{compiler} {options:?}"
        );
        let (gids, group) = rest.rsplit_once(' ').unwrap();
        let mut gids: Vec<&str> = gids.split(' ').collect();
        gids.sort_unstable();
        assert_eq!(gids, ["1500", "1510", "1512"], "{compiler} {options:?}");
        assert!(group.starts_with("science:1512:bob,carol"), "{text}");
    }
}

#[test]
fn crowds_of_children_and_threads_miss_nothing_while_maps_change() {
    let test = "crowds_of_children_and_threads_miss_nothing_while_maps_change";
    if !has_peers(test) {
        return;
    }
    let lab = Lab::running(Settings::default());
    let before = lab.client().status().unwrap().generation;
    let going = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if !going.load(Ordering::Relaxed) {
                    break;
                }
                lab.modify(&format!(
                    "dn: uid=carol,ou=people,dc=example,dc=org\nchangetype: modify\nreplace: gecos\ngecos: {number}\n"
                ));
            }
        });
        let runs = COMPILERS.map(|(compiler, options)| {
            let program = built(test, &lab, compiler, options)?;
            let rounds = if compiler == "musl-gcc" { "3" } else { "20" };
            let output = lab
                .program(&program)
                .args(["storm", "bob", rounds])
                .output()
                .unwrap();
            Some((compiler, options, output))
        });
        going.store(false, Ordering::Relaxed);
        for (compiler, options, output) in runs.into_iter().flatten() {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{compiler} {options:?}: {said}");
        }
    });
    assert!(lab.client().status().unwrap().generation > before + 5);
}
