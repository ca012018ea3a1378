//! What the running program may do, as the kernel tells it and as code inside it finds out.
//!
//! `cargo test -p login-gateway-accept --features captured` builds the program that tries.
#![allow(clippy::unwrap_used)]

mod support;

use support::settings;

/// An empty folder and an account without rights, if the test may use them.
fn confined() -> Option<(tempfile::TempDir, gateway_wire::Settings)> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: accept's sandbox as another user needs root");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&[], false);
    settings.user = Some("nobody".into());
    settings.empty_root = folder.path().into();
    Some((folder, settings))
}

#[test]
fn the_kernel_says_it_has_no_rights() {
    let Some((folder, settings)) = confined() else {
        return;
    };
    let accept = support::start(&settings);
    let proc = format!("/proc/{}", accept.child.id());
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let (uid, gid) = (nobody.uid, nobody.gid);
    for line in [
        format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}"),
        format!("Gid:\t{gid}\t{gid}\t{gid}\t{gid}"),
        "CapEff:\t0000000000000000".into(),
        "CapPrm:\t0000000000000000".into(),
        "NoNewPrivs:\t1".into(),
        "Seccomp:\t2".into(),
    ] {
        assert!(
            status.lines().any(|l| l.trim_end() == line),
            "{line}: {status}"
        );
    }
    assert_eq!(
        std::fs::read_link(format!("{proc}/root")).unwrap(),
        folder.path()
    );
    // It works all the same.
    let client = accept.connect();
    assert_eq!(accept.connection().0.source, client.local_addr().unwrap());
    assert!(
        accept
            .ask(b"GET /healthz HTTP/1.1\r\n\r\n")
            .contains(" 200 ")
    );
}

#[test]
#[cfg(feature = "captured")]
fn captured_it_can_do_nothing() {
    let unconfined = Some((tempfile::tempdir().unwrap(), settings(&[], false)));
    for (folder, settings) in [confined(), unconfined].into_iter().flatten() {
        let (reader, writer) = std::io::pipe().unwrap();
        let accept = support::spawn(&settings, Some(writer.into()));
        let lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
        for line in lines.map(Result::unwrap).take(9) {
            println!("{line}");
            assert!(line.starts_with("captured: ") && line.ends_with(": refused"));
        }
        drop((accept, folder));
    }
}
