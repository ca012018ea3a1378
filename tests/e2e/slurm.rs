//! Slurm from alice's shell: the real clients, her identity, and no way to the key.

use tests::lab;

#[test]
fn every_client_works_and_the_job_is_hers() {
    let lab = lab();
    let alice = lab.person("alice");
    let uid = lab.ssh(&alice, "id -u").ok().to_owned();
    assert!(lab.ssh(&alice, "sinfo -h -o %T").ok().contains("idle"));
    assert_eq!(lab.ssh(&alice, "srun id -u").ok(), uid);
    let script = b"#!/bin/sh\nid -u; id -G; hostname; pwd\n";
    let job = lab.ssh_feed(&alice, "sbatch --wait -o job.out && cat job.out", script);
    let lines: Vec<&str> = job.ok().lines().collect();
    assert!(lines[0].starts_with("Submitted batch job "), "{lines:?}");
    assert_eq!((lines[1], lines[4]), (uid.as_str(), "/home/alice"));
    assert_eq!(lines[3], "node1");
    assert!(lines[2].split(' ').any(|g| g == uid), "{lines:?}");
    let held = lab.ssh(&alice, "sbatch -H --parsable --wrap 'sleep 60'");
    let id = held.ok();
    assert!(
        lab.ssh(&alice, &format!("squeue -h -j {id} -o '%u %T'"))
            .ok()
            .contains("alice PENDING")
    );
    assert!(
        lab.ssh(&alice, &format!("scontrol show job {id}"))
            .ok()
            .contains("UserId=alice(")
    );
    lab.ssh(&alice, &format!("scancel {id}")).ok();
    assert_eq!(
        lab.ssh(&alice, &format!("squeue -h -j {id} -t pending"))
            .out,
        ""
    );
    assert_eq!(lab.ssh(&alice, "salloc -Q srun hostname").ok(), "node1");
    // The node has never heard of her.
    assert_eq!(lab.exec("node1", &["getent", "passwd", "alice"]).code, 2);
}

/// Tokens that sackd-shim made for her.
fn tokens_of_alice() -> usize {
    let log = lab().podman(&["logs"], "pod-0-sackd");
    let log = log.out + &log.err;
    let hers = |l: &&str| l.contains("token.made") && l.contains("user=\"alice\"");
    log.lines().filter(hers).count()
}

/// From the login in the gateway's log to the token in sackd-shim's, and to the job in Slurm's.
#[test]
fn a_login_is_followed_to_its_jobs() {
    let lab = lab();
    let alice = lab.person("alice");
    let before = tokens_of_alice();
    let batch = "sbatch -H --parsable --wrap 'sleep 60'";
    let mine = "sbatch -H --parsable --extra=mine --wrap 'sleep 60'";
    let interactive = "salloc -Q sh -c 'scontrol show job $SLURM_JOB_ID; srun true'";
    let done = lab.ssh(
        &alice,
        &format!("echo $SLURM_LOGIN_ID; {batch}; {mine}; {interactive}"),
    );
    let lines: Vec<&str> = done.ok().lines().collect();
    let (login, jobs) = (lines[0], &lines[1..3]);
    assert!(
        login.len() == 8 && login.bytes().all(|b| b.is_ascii_hexdigit()),
        "{lines:?}"
    );
    let shown = |job: &str| {
        let shown = lab.exec("ctl", &["scontrol", "show", "job", job]);
        shown.ok().to_owned()
    };
    let field = format!("Extra=login={login}");
    assert!(shown(jobs[0]).contains(&field), "{}", shown(jobs[0]));
    assert!(shown(jobs[1]).contains("Extra=mine"), "{}", shown(jobs[1]));
    assert!(done.out.contains(&field), "{}", done.out);
    lab.ssh(&alice, &format!("scancel {}", jobs.join(" "))).ok();

    let of = |container: &str, event: &str| {
        let log = lab.podman(&["logs"], &format!("pod-0-{container}"));
        let log = log.out + &log.err;
        let lines = log
            .lines()
            .filter(|l| l.contains(login) && l.contains(event));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let opened = of("gateway", "session.opened");
    assert!(
        opened.len() == 1 && opened[0].contains("alice"),
        "{opened:?}"
    );
    let programs = of("gateway", "program.started");
    assert!(programs[0].contains("sbatch -H"), "{programs:?}");
    // Without the gateway's processes in sight, sackd-shim knows whose token it was, not which login's.
    assert!(tokens_of_alice() >= before + 3);
}

#[test]
fn statuses_and_streams_pass_through_the_wrappers() {
    let lab = lab();
    let alice = lab.person("alice");
    assert_eq!(
        lab.ssh(&alice, "command -v srun").ok(),
        "/usr/local/bin/srun"
    );
    assert_eq!(lab.ssh(&alice, "srun sh -c 'exit 13'").code, 13);
    let done = lab.ssh_feed(&alice, "srun sh -c 'cat; echo err >&2'", b"in\n");
    assert_eq!((done.out.as_str(), done.err.as_str()), ("in\n", "err\n"));
    // Its name is the one that was typed, as with the real client.
    let ours = lab.ssh(&alice, "sbatch --no-such-option");
    let theirs = lab.ssh(&alice, "PATH=/usr/bin sbatch --no-such-option");
    assert_eq!((ours.code, &ours.err), (theirs.code, &theirs.err));
    assert_ne!(ours.code, 0);
}

#[test]
fn no_path_leads_from_a_shell_to_slurm_key() {
    let lab = lab();
    let alice = lab.person("alice");
    let key = std::fs::read(tests::repo().join(".lab/secrets/slurm.key")).unwrap();
    assert_eq!(
        lab.exec("sackd", &["sh", "-c", "wc -c < /etc/slurm/slurm.key"])
            .ok(),
        "1024"
    );
    // Nowhere in the file system that she or root of her container sees.
    for said in [
        lab.ssh(
            &alice,
            "find / -name 'slurm*key*' -o -name 'slurm.jwks' 2>/dev/null; true",
        ),
        lab.exec(
            "gateway",
            &[
                "sh",
                "-c",
                "find / -name 'slurm*key*' -not -path '/proc/*'; true",
            ],
        ),
    ] {
        assert_eq!(said.ok(), "");
    }
    // Not through another process, its memory or its mounts.
    let script = "for p in /proc/[0-9]*; do \
        for f in $p/root/etc/slurm/slurm.key $p/cwd/slurm.key $p/environ $p/fd/*; do \
        [ -f $f ] && timeout 1 head -c 4096 $f; done; done 2>/dev/null | od -An -v -tx1 | tr -d ' \\n'";
    let hex: String = key[..32].iter().map(|b| format!("{b:02x}")).collect();
    assert!(!lab.ssh(&alice, script).out.contains(&hex));
    assert!(
        !lab.exec("gateway", &["sh", "-c", script])
            .out
            .contains(&hex)
    );
    // The folders that are shared with the signer's container cannot be written from hers.
    for folder in ["/run/slurm", "/run/nscd", "/run/directoryd"] {
        for said in [
            lab.ssh(&alice, &format!("touch {folder}/x")),
            lab.exec("gateway", &["touch", &format!("{folder}/x")]),
        ] {
            assert_ne!(said.code, 0, "{folder}");
        }
    }
    // And nobody gets another's identity: the frame's word does not count, only the kernel's.
    let id = lab.ssh(&alice, "sbatch -H --parsable --uid=0 --wrap true; true");
    assert!(!id.out.trim().chars().all(|c| c.is_ascii_digit()) || id.out.trim().is_empty());
}
