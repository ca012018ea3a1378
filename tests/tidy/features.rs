//! The tables that say which test holds what: each case that they name exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Documents whose tables name cases.
const TABLES: &[&str] = &[
    "docs/gateway-features.md",
    "docs/gateway.md",
    "docs/directory-features.md",
];

/// Files of the sources and their text.
fn files() -> Vec<(PathBuf, String)> {
    let listed = Command::new("git")
        .args([
            "-C",
            ROOT,
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
            "*.py",
        ])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let text = |file: &str| std::fs::read_to_string(format!("{ROOT}/{file}")).ok();
    let with_text = listed
        .lines()
        .filter_map(|file| Some((file.into(), text(file)?)));
    with_text.collect()
}

/// Cases by the name of the file, or of the folder, that they stand in.
fn cases() -> BTreeMap<String, BTreeSet<String>> {
    let mut cases: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in files() {
        for part in [Some(&*path), path.parent()].into_iter().flatten() {
            let stem = part.file_stem().unwrap_or_default().to_string_lossy();
            cases
                .entry(stem.into_owned())
                .or_default()
                .extend(names(&text));
        }
    }
    cases
}

/// Functions that are tests, cases of the macros `case!` and `python!`, methods of unittest, scripts of OpenSSH.
fn names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut test = false;
    for line in text.lines().map(str::trim_start) {
        let word = |rest: &str| {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_-".contains(c)));
            rest[..end.unwrap_or(rest.len())].to_owned()
        };
        let plain = line.strip_prefix("async ").unwrap_or(line);
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            test = true;
        } else if let (true, Some(rest)) = (test, plain.strip_prefix("fn ")) {
            names.insert(word(rest));
            test = false;
        }
        for start in ["case!(", "python!(", "async def ", "def ", "(\""] {
            names.extend(line.strip_prefix(start).map(word));
        }
        // A long case! has its name in the next line.
        if line.ends_with(',') && !line.contains(' ') {
            names.insert(word(line.trim_start_matches('"')));
        }
    }
    names
}

/// What stands between back quotes and has the form of a case.
fn named(text: &str) -> Vec<(String, String)> {
    let quoted = text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted
        .filter_map(|name| name.split_once("::"))
        .filter(|(file, case)| {
            let fits = |name: &str| {
                name.chars()
                    .all(|c| c.is_alphanumeric() || "_-".contains(c))
            };
            !file.is_empty() && !case.is_empty() && fits(file) && fits(case)
        })
        .map(|(file, case)| (file.to_owned(), case.to_owned()))
        .collect()
}

#[test]
fn each_case_that_the_tables_name_exists() {
    let cases = cases();
    let mut seen = 0;
    let mut missing = Vec::new();
    for table in TABLES {
        let text = std::fs::read_to_string(format!("{ROOT}/{table}")).unwrap();
        for (file, case) in named(&text) {
            seen += 1;
            if !cases.get(&file).is_some_and(|names| names.contains(&case)) {
                missing.push(format!("{table}: {file}::{case}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(seen > 150, "{seen}");
}

#[test]
fn each_trap_has_a_test_that_names_it() {
    let text = std::fs::read_to_string(format!("{ROOT}/docs/gateway.md")).unwrap();
    let listed = files();
    for number in 1..=24 {
        let trap = format!("T{number}");
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| {trap} |")));
        let row = row.unwrap_or_else(|| panic!("no row of {trap}"));
        let held = named(row).iter().any(|(file, case)| {
            listed.iter().any(|(path, text)| {
                let here = path.file_stem().is_some_and(|stem| stem == file.as_str())
                    || path.parent().is_some_and(|folder| folder.ends_with(file));
                let says = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()) == trap;
                here && names(text).contains(case) && text.split_whitespace().any(says)
            })
        });
        assert!(held, "no test of {trap} names it: {row}");
    }
}

#[test]
fn a_case_that_does_not_exist_is_noticed() {
    let cases = cases();
    assert!(!cases["channels"].contains("no_such_case"));
    assert!(cases["channels"].contains("sixty_sessions_at_once"));
    assert!(cases["regress"].contains("exit-status"));
    assert_eq!(named("| `a::b` and `c` and `x::y-z` |").len(), 2);
}
