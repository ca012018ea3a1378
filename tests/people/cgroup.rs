//! Control groups of users, on a hierarchy of version 2 where the machine has one that can be written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use tests::{Host, Server, run};

use crate::host;

/// A group that is delegated to a gateway; it goes with the test.
struct Delegated {
    folder: PathBuf,
    /// A process of it, as a gateway's own would be.
    child: Child,
}

impl Delegated {
    /// One with these controllers; says why there is none.
    fn with(host: &Host, test: &str, controllers: &[&str]) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut lines = mounts.lines().map(|line| line.split(' '));
        let Some(root) = lines.find_map(|mut line| {
            let point = line.nth(1)?;
            (line.next()? == "cgroup2").then(|| PathBuf::from(point))
        }) else {
            println!("skipped: {test} needs control groups of version 2");
            return None;
        };
        let has = fs::read_to_string(root.join("cgroup.controllers")).unwrap();
        let missing: Vec<_> = controllers
            .iter()
            .filter(|c| !has.split_whitespace().any(|has| has == **c))
            .collect();
        if !missing.is_empty() {
            println!("skipped: {test} needs the controllers {missing:?} in version 2");
            return None;
        }
        if !controllers.is_empty() {
            let wanted: Vec<_> = controllers.iter().map(|c| format!("+{c}")).collect();
            fs::write(root.join("cgroup.subtree_control"), wanted.join(" ")).unwrap();
        }
        let folder = root.join(format!("login-gateway-{}-{test}", std::process::id()));
        if let Err(error) = fs::create_dir(&folder) {
            println!("skipped: {test} needs control groups that it may make: {error}");
            return None;
        }
        let procs = folder.join("cgroup.procs");
        let child = host
            .command("sh")
            .args(["-c", "echo $$ >\"$0\" && exec sleep 1000"])
            .arg(&procs)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        while fs::read_to_string(&procs).unwrap().is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Some(Self { folder, child })
    }

    /// Its folder's path below the mount.
    fn name(&self) -> String {
        self.folder.file_name().unwrap().to_str().unwrap().into()
    }

    fn config(&self, more: &str) -> String {
        format!("cgroup = \"{}\"\n{more}", self.folder.display())
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::write(self.folder.join("cgroup.kill"), "1");
        let end = std::time::Instant::now() + tests::SOON;
        for folder in [self.folder.join("gateway"), self.folder.clone()] {
            while folder.exists() && fs::remove_dir(&folder).is_err() {
                if std::time::Instant::now() > end {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// Waits until a group is there, or is not.
fn until(folder: &Path, there: bool) {
    let end = std::time::Instant::now() + tests::SOON;
    while folder.exists() != there {
        assert!(std::time::Instant::now() < end, "{}", folder.display());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// The group of version 2 that a login is in.
fn group(server: &Server, user: &tests::User) -> String {
    let said = server.says(user, "sed -n 's/^0:://p' /proc/self/cgroup");
    said.ok().to_owned()
}

#[test]
fn each_user_has_a_group() {
    let Some(host) = host("cgroup::each_user_has_a_group") else {
        return;
    };
    let Some(delegated) = Delegated::with(host, "each_user_has_a_group", &[]) else {
        return;
    };
    let server = host.gateway(delegated.config("").as_str());
    let (ann, ben) = (host.user(), host.user());
    let of = |user: &tests::User| delegated.folder.join(format!("user-{}", user.uid));
    let expected = format!("/{}/user-{}", delegated.name(), ann.uid);
    assert!(group(&server, &ann).ends_with(&expected));
    until(&of(&ann), false);
    // What was in the group has a leaf of its own.
    let own = fs::read_to_string(delegated.folder.join("gateway/cgroup.procs")).unwrap();
    assert_eq!(own.lines().count(), 1);
    assert_eq!(
        fs::read_to_string(delegated.folder.join("cgroup.procs")).unwrap(),
        ""
    );

    // Terminals too; all logins of a user together, and nobody else.
    let script = "read x; sed -n 's/^0:://p' /proc/self/cgroup";
    let mut open = server.ssh(&ann, &["-tt"]);
    let mut open = open
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until(&of(&ann), true);
    assert!(group(&server, &ann).ends_with(&expected));
    assert!(of(&ann).exists(), "a login of the user is there");
    assert!(group(&server, &ben).ends_with(&format!("user-{}", ben.uid)));
    until(&of(&ben), false);
    server.signal(Signal::SIGHUP);
    std::io::Write::write_all(&mut open.stdin.take().unwrap(), b"x\n").unwrap();
    let said = open.wait_with_output().unwrap();
    assert!(
        String::from_utf8_lossy(&said.stdout).contains(&expected),
        "{said:?}"
    );
    until(&of(&ann), false);

    // Programs that go on keep it.
    let left = "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!";
    let pid = server.says(&ann, left);
    assert!(group(&server, &ann).ends_with(&expected));
    assert!(of(&ann).exists());
    host.sh(&format!("kill {}", pid.ok())).ok();
    let mut last = String::new();
    while of(&ann).exists() && last.is_empty() {
        last = group(&server, &ben);
        let _ = group(&server, &ann);
    }
    until(&of(&ann), false);
}

#[test]
fn limits_hold_for_all_logins_of_a_user_together() {
    let Some(host) = host("cgroup::limits_hold_for_all_logins_of_a_user_together") else {
        return;
    };
    let wanted = ["cpu", "memory", "pids"];
    let Some(delegated) = Delegated::with(
        host,
        "limits_hold_for_all_logins_of_a_user_together",
        &wanted,
    ) else {
        return;
    };
    let (ann, ben) = (host.user(), host.user());
    let limits = format!(
        "[[match]]\nuser = [\"{}\"]\nmemory-max = 104857600\nprocesses-max = 30\n",
        ann.name
    );
    let server = host.gateway(delegated.config(&limits).as_str());
    // Twice what is allowed: the kernel ends the program, and the login lives on to say so.
    let eat = "python3 -c 'x = b\"x\" * 200000000; print(len(x))' 2>&1; echo $?";
    assert_eq!(server.says(&ann, eat).ok().lines().last(), Some("137"));
    server.logged("memory.exceeded");
    assert_eq!(server.says(&ben, eat).ok(), "200000000\n0");
    // Two logins, one limit.
    let many = "for i in $(seq 20); do sleep 30 & done; echo started; wait";
    let mut first = server.ssh(&ann, &[]);
    let mut first = first.arg(many).stdout(Stdio::piped()).spawn().unwrap();
    let mut started = [0; 8];
    std::io::Read::read_exact(first.stdout.as_mut().unwrap(), &mut started).unwrap();
    let refused = server.says(&ann, "for i in $(seq 20); do sleep 0.1 & done; wait");
    let words = refused.out.clone() + &refused.err;
    assert!(
        words.contains("Resource temporarily unavailable"),
        "{refused:?}"
    );
    assert_eq!(
        server
            .says(&ben, "for i in $(seq 40); do sleep 0.1 & done; wait")
            .code,
        0
    );
    let _ = first.kill();
    let _ = first.wait();
}

#[test]
fn a_group_that_cannot_be_had() {
    let Some(host) = host("cgroup::a_group_that_cannot_be_had") else {
        return;
    };
    let program = tests::programs().join("login-gateway");
    let check = |config: &str| {
        let file = host.folder().join("group.toml");
        fs::write(&file, config).unwrap();
        let said = run(host
            .command(&program)
            .arg("--config")
            .arg(&file)
            .arg("check"));
        assert_ne!(said.code, 0);
        said.out + &said.err
    };
    let said = check("cgroup = \"/tmp\"\n");
    assert!(
        said.contains("cgroup: '/tmp' is no control group of version 2"),
        "{said}"
    );
    let said = check("memory-max = 1\n[[match]]\nprocesses-max = 1\n");
    assert!(said.contains("memory-max: it needs 'cgroup'"), "{said}");
    assert!(said.contains("processes-max: it needs 'cgroup'"), "{said}");
}
