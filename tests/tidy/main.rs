//! The rooms and who may import whom, as ARCHITECTURE.md has it. A new edge is a decision, so it is
//! made here too.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod features;

use std::collections::BTreeMap;
use std::process::Command;

/// Room, what it may import of ours, and the narrow edges: crates that live in one room alone.
const ROOMS: &[(&str, &[&str])] = &[
    ("gateway-wire", &["service"]),
    ("sys", &[]),
    ("service", &[]),
    ("pam", &[]),
    ("directory-client", &[]),
    ("directory-map", &[]),
    ("slurm-wire", &[]),
    ("slurm-auth", &["slurm-wire", "service"]),
    (
        "login-gateway",
        &["directory-client", "gateway-wire", "sys", "service"],
    ),
    ("login-gateway-accept", &["gateway-wire", "sys", "service"]),
    ("login-gateway-net", &["gateway-wire", "sys", "service"]),
    (
        "login-gateway-monitor",
        &["gateway-wire", "sys", "service", "pam", "directory-client"],
    ),
    ("login-gateway-session", &["gateway-wire", "sys", "service"]),
    ("sftp-server", &["sys", "service"]),
    (
        "sackd-shim",
        &[
            "slurm-wire",
            "slurm-auth",
            "directory-client",
            "sys",
            "service",
        ],
    ),
    (
        "sackd-shim-config",
        &["slurm-wire", "slurm-auth", "sys", "service"],
    ),
    (
        "directoryd",
        &[
            "directory-client",
            "directory-map",
            "ldap-link",
            "sys",
            "service",
            "slurm-wire",
        ],
    ),
    ("ldap-link", &[]),
    ("pam-directory", &["directory-client"]),
    (
        "client-cli",
        &["directory-client", "ldap-link", "service", "sys"],
    ),
    ("tests", &["sys"]),
];

/// Crates of others that belong to the named rooms alone; russh, whose API changes often (T24), among them.
const NARROW: &[(&str, &[&str])] = &[
    ("russh", &["login-gateway-net"]),
    ("ldap3", &["directoryd", "client-cli"]),
    ("hmac", &["slurm-auth"]),
    (
        "tokio",
        &["login-gateway-net", "directoryd", "ldap-link", "client-cli"],
    ),
];

fn imports() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let names = dependencies
                .iter()
                .filter(|d| d["kind"].is_null())
                .map(|d| d["name"].as_str().unwrap().to_owned());
            (
                package["name"].as_str().unwrap().to_owned(),
                names.collect(),
            )
        })
        .collect()
}

#[test]
fn rooms_import_only_what_they_may() {
    let imports = imports();
    let rooms: Vec<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    for (package, names) in &imports {
        let (_, allowed) = ROOMS
            .iter()
            .find(|(room, _)| room == package)
            .unwrap_or_else(|| panic!("room '{package}' is not in the table"));
        for name in names.iter().filter(|n| rooms.contains(&n.as_str())) {
            assert!(
                allowed.contains(&name.as_str()),
                "'{package}' imports '{name}'"
            );
        }
    }
    assert_eq!(imports.len(), ROOMS.len());
}

#[test]
fn narrow_edges_stay_narrow() {
    for (package, names) in imports() {
        for (narrow, rooms) in NARROW {
            let allowed = rooms.contains(&package.as_str());
            assert!(
                allowed || !names.iter().any(|n| n == narrow),
                "'{package}' imports '{narrow}'"
            );
        }
    }
}

#[test]
fn unsafe_is_fenced() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let listed = Command::new("git")
        .args(["-C", root, "ls-files", "*.rs"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let fenced = [
        "crates/sys/",
        "crates/pam/",
        "crates/nss-directory/",
        "crates/pam-directory/",
        "fuzz/",
    ];
    let roots = listed.lines().filter(|f| {
        (f.ends_with("/main.rs") || f.ends_with("/lib.rs"))
            && f.contains("src/")
            && !fenced.iter().any(|room| f.starts_with(room))
    });
    let mut seen = 0;
    for file in roots {
        let text = std::fs::read_to_string(format!("{root}/{file}")).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file}");
        seen += 1;
    }
    assert!(seen > 10);
}
