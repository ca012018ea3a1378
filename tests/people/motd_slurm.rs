//! `images/login/motd-slurm` as a greeting: what it says, and its silence where nobody answers it.

use std::time::Duration;

use tests::{Server, User, repo, run_with};

use crate::host;

/// What a new terminal shows with this `squeue` in the user's path.
fn shown(squeue: &str) -> Option<String> {
    let host = host("motd_slurm")?;
    let script = std::fs::read(repo().join("images/login/motd-slurm")).unwrap();
    let folder = format!("/etc/motd-slurm.{}", squeue.len());
    host.write(format!("{folder}/motd-slurm"), script);
    host.write(format!("{folder}/squeue"), squeue);
    host.sh(&format!("chmod 755 {folder}/*")).ok();
    let server: Server = host.gateway(
        format!(
            "motd-files = []\nmotd-command = \"{folder}/motd-slurm\"\n\
             path = \"{folder}:/usr/bin:/bin\"\n"
        )
        .as_str(),
    );
    let ann: User = host.user();
    let mut ssh = server.ssh(&ann, &["-tt"]);
    let done = run_with(&mut ssh, b"exit\n", Duration::from_secs(60));
    assert_eq!(done.code, 0, "{done:#?}");
    let lines = done.out.lines().filter(|line| {
        ["Jobs", "Home", "squeue", "awk", "df", "sh:"]
            .iter()
            .any(|start| line.contains(start))
    });
    Some(lines.map(|line| line.to_owned() + "\n").collect())
}

#[test]
fn jobs_and_space() {
    let squeue = "#!/bin/sh\nprintf '%s\\n' RUNNING PENDING RUNNING PENDING PENDING COMPLETED\n";
    let Some(shown) = shown(squeue) else { return };
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "Jobs: 2 running, 3 waiting (squeue --me)");
    assert!(
        lines[1].starts_with("Home: ") && lines[1].contains("GiB used"),
        "{shown}"
    );
    assert_eq!(lines.len(), 2, "{shown}");
}

#[test]
fn silence_where_nobody_answers() {
    for squeue in [
        "#!/bin/sh\necho slurm_load_jobs error >&2; exit 1\n",
        "#!/bin/sh\nsleep 600\n",
        "no program\n",
    ] {
        let Some(shown) = shown(squeue) else { return };
        assert!(
            shown.starts_with("Home: ") && shown.lines().count() == 1,
            "{squeue}: {shown}"
        );
    }
}
