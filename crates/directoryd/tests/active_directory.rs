//! Active Directory: a real Samba domain controller, in a network namespace of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::Engine;
use directory_client::{AccountState, Change, Client, Lookup, Password, Status, Verdict};
use directory_map::protocol::Query;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use support::found;
use tempfile::TempDir;

struct Domain {
    folder: TempDir,
    samba: Pid,
    daemon: Option<Child>,
}

fn has(test: &str) -> bool {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped {test}: a domain controller needs root");
        return false;
    }
    for path in ["/usr/sbin/samba", "/usr/bin/samba-tool", "/usr/bin/nsenter"] {
        if !Path::new(path).exists() {
            println!("skipped {test}: '{path}' is not installed");
            return false;
        }
    }
    // Its modules and its set-up are packages of their own.
    for path in [
        "/usr/share/samba/setup",
        "/usr/lib/x86_64-linux-gnu/samba/ldb/samldb.so",
    ] {
        if !Path::new(path).exists() && cfg!(target_arch = "x86_64") {
            println!("skipped {test}: '{path}' of samba-ad-dc is not installed");
            return false;
        }
    }
    true
}

impl Domain {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["nscd", "run", "state"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/lab/samba/start.sh");
        let started = Command::new(script)
            .arg(folder.path().join("dc"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(started.success());
        let pid = fs::read_to_string(folder.path().join("dc/samba.pid")).unwrap();
        Self {
            folder,
            samba: Pid::from_raw(pid.trim().parse().unwrap()),
            daemon: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn secret(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("dc/secret/{name}"))).unwrap()
    }

    fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.samba))
            .arg(program);
        command
    }

    /// Starts directoryd, anew if it runs, with more lines for its `[ldap]` table.
    fn serve(&mut self, uri: &str, more: &str) -> Status {
        self.serve_under("dc=example,dc=test", uri, more)
    }

    /// The same with another base.
    fn serve_under(&mut self, base: &str, uri: &str, more: &str) -> Status {
        self.start_daemon(base, uri, more);
        support::wait("the replica", || {
            let status = self.client().status().ok()?;
            (status.complete && !status.server.is_empty()).then_some(status)
        })
    }

    fn start_daemon(&mut self, base: &str, uri: &str, more: &str) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
        let path = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "nscd-socket = \"{}\"\ncontrol-socket = \"{}\"\nstate-dir = \"{}\"\n[ldap]\nuris = [\"{uri}\"]\n\
             ca-file = \"{}\"\nbind-dn = \"reader@example.test\"\nbind-password-file = \"{}\"\n\
             schema = \"ad\"\nbase = \"{base}\"\nlookup-timeout = \"5s\"\nchange-interval = \"200ms\"\n\
             refresh-interval = \"200ms\"\n{more}\n[password]\nrefusal-time = \"50ms\"\nuser-failures = 50\n",
            path("nscd/socket"),
            path("run/control.sock"),
            path("state"),
            path("dc/tls/ca.pem"),
            path("dc/secret/reader-password"),
        );
        fs::write(self.path("directoryd.toml"), text).unwrap();
        fs::set_permissions(
            self.path("directoryd.toml"),
            fs::Permissions::from_mode(0o644),
        )
        .unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let daemon = self
            .inside(env!("CARGO_BIN_EXE_directoryd"))
            .arg("--config")
            .arg(self.path("directoryd.toml"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
    }

    fn client(&self) -> Client {
        Client::new(self.path("run/control.sock")).with_timeout(Duration::from_secs(3))
    }

    fn account(&self, name: &str) -> directory_client::Account {
        match self.client().account(name, Duration::from_secs(5)).unwrap() {
            Lookup::Found(account) => account,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn attempt(&self, name: &str, text: &str) -> Verdict {
        let password = Password::new(text.into()).unwrap();
        self.client().authenticate(name, password, "").unwrap()
    }

    fn change(&self, name: &str, old: &str, new: &str) -> Change {
        let [old, new] = [old, new].map(|text| Password::new(text.into()).unwrap());
        self.client().change_password(name, old, new, "").unwrap()
    }

    /// Changes the domain as its administrator.
    fn modify(&self, ldif: &str) {
        fs::write(self.path("change.ldif"), ldif).unwrap();
        let done = self
            .inside("ldapmodify")
            .env("LDAPTLS_CACERT", self.path("dc/tls/ca.pem"))
            .args([
                "-x",
                "-H",
                "ldaps://127.0.0.1",
                "-D",
                "administrator@example.test",
                "-y",
            ])
            .arg(self.path("dc/secret/admin-password"))
            .arg("-f")
            .arg(self.path("change.ldif"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(done.success(), "{ldif}");
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = kill(self.samba, Signal::SIGTERM);
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            eprintln!("the daemon's log:\n{log}");
        }
    }
}

/// Groups as sites have them: above the primary group of all, in a circle, of one domain alone, by mail.
const MORE_GROUPS: &str = "dn: CN=all staff,CN=Users,DC=example,DC=test\nchangetype: add\nobjectClass: group\n\
sAMAccountName: All Staff\nmember: CN=Domain Users,CN=Users,DC=example,DC=test\n\n\
dn: CN=campus,CN=Users,DC=example,DC=test\nchangetype: add\nobjectClass: group\nsAMAccountName: campus\n\
groupType: -2147483640\nmember: CN=all staff,CN=Users,DC=example,DC=test\n\
member: CN=gina,CN=Users,DC=example,DC=test\n\n\
dn: CN=all staff,CN=Users,DC=example,DC=test\nchangetype: modify\nreplace: groupType\n\
groupType: -2147483640\n-\nadd: member\nmember: CN=campus,CN=Users,DC=example,DC=test\n\n\
dn: CN=printers,CN=Users,DC=example,DC=test\nchangetype: add\nobjectClass: group\nsAMAccountName: printers\n\
groupType: -2147483644\nmember: CN=science,CN=Users,DC=example,DC=test\n\n\
dn: CN=letters,CN=Users,DC=example,DC=test\nchangetype: add\nobjectClass: group\nsAMAccountName: letters\n\
groupType: 2\nmember: CN=bob,CN=Users,DC=example,DC=test\n\n\
dn: CN=readers,CN=Users,DC=example,DC=test\nchangetype: add\nobjectClass: group\nsAMAccountName: readers\n\
groupType: -2147483644\nmember: CN=letters,CN=Users,DC=example,DC=test\n\n\
dn: CN=dave,CN=Users,DC=example,DC=test\nchangetype: modify\nreplace: primaryGroupID\nprimaryGroupID: ";

const PEOPLE: [&str; 6] = ["bob", "carol", "dave", "erin", "frank", "gina"];

impl Domain {
    /// What the server itself works out to be a person's groups: the RIDs of those of the domain.
    fn token_groups(&self, name: &str) -> BTreeSet<u32> {
        let base = format!("CN={name},CN=Users,DC=example,DC=test");
        let output = self
            .inside("ldapsearch")
            .env("LDAPTLS_CACERT", self.path("dc/tls/ca.pem"))
            .args(["-x", "-LLL", "-o", "ldif-wrap=no"])
            .args(["-H", "ldaps://127.0.0.1", "-D", "reader@example.test", "-y"])
            .arg(self.path("dc/secret/reader-password"))
            .args(["-s", "base", "-b", &base, "tokenGroups"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let sids = text
            .lines()
            .filter_map(|line| line.strip_prefix("tokenGroups:: "));
        let sids = sids.map(|sid| base64::prelude::BASE64_STANDARD.decode(sid).unwrap());
        // Those of the domain have five parts; builtin ones are no groups here.
        let rids = sids.filter(|sid| sid[1] == 5);
        rids.map(|sid| u32::from_le_bytes(sid[24..28].try_into().unwrap()))
            .collect()
    }

    /// A person's groups as they are served, the same way.
    fn rids(&self, name: &str, budget: Duration) -> Option<BTreeSet<u32>> {
        let account = self.client().account(name, budget).unwrap().found()?;
        Some(
            account
                .groups
                .iter()
                .map(|(gid, _)| gid % 200_000)
                .collect(),
        )
    }
}

#[test]
fn groups_are_those_that_the_server_works_out() {
    if !has("groups_are_those_that_the_server_works_out") {
        return;
    }
    let mut domain = Domain::start();
    domain.modify(&format!("{MORE_GROUPS}{}\n", 513));
    domain.serve("ldaps://127.0.0.1", "");
    let check = |domain: &Domain, budget| {
        for name in PEOPLE {
            let groups = domain.token_groups(name);
            assert!(groups.len() > 2, "{groups:?}");
            assert_eq!(domain.rids(name, budget), Some(groups), "{name}");
        }
    };
    // From the copy, by a look-up, and from the copy after it.
    for budget in [0, 5, 0].map(Duration::from_secs) {
        check(&domain, budget);
    }
    let all_staff = |domain: &Domain| {
        let account = domain.account("bob");
        account.groups.iter().any(|(_, name)| name == "all_staff")
    };
    assert!(all_staff(&domain));
    // Another primary group: its members list is one thing, who has it another.
    domain.modify(
        "dn: CN=physics,CN=Users,DC=example,DC=test\nchangetype: modify\nadd: member\n\
         member: CN=dave,CN=Users,DC=example,DC=test\n",
    );
    let physics = domain.token_groups("dave");
    support::wait("dave joins", || {
        (domain.rids("dave", Duration::ZERO)? == physics).then_some(())
    });
    let rid = physics
        .difference(&domain.token_groups("erin"))
        .max()
        .copied();
    assert!(rid.is_some());
    // A unit in which the primary group is not: it connects all the same.
    domain.modify(
        "dn: OU=site,DC=example,DC=test\nchangetype: add\nobjectClass: organizationalUnit\n\n\
         dn: CN=everybody,OU=site,DC=example,DC=test\nchangetype: add\nobjectClass: group\n\
         sAMAccountName: everybody\nmember: CN=Domain Users,CN=Users,DC=example,DC=test\n",
    );
    let site = "group-base = \"OU=site,DC=example,DC=test\"\n";
    domain.serve("ldaps://127.0.0.1", site);
    for budget in [0, 5, 0].map(Duration::from_secs) {
        let erin = domain
            .client()
            .account("erin", budget)
            .unwrap()
            .found()
            .unwrap();
        let names: Vec<&str> = erin.groups.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["", "everybody"]);
    }

    // One by one, where there are more than are to be held.
    fs::remove_dir_all(domain.path("state")).unwrap();
    fs::create_dir(domain.path("state")).unwrap();
    domain.start_daemon(
        "dc=example,dc=test",
        "ldaps://127.0.0.1",
        "on-demand = true\nmost-entries = 2\n",
    );
    let folder = domain.folder.path();
    support::wait("that it can be asked", || {
        domain.client().status().ok()?;
        (found(folder, Query::GroupsOfUser, "erin") == 1).then_some(())
    });
    for name in PEOPLE {
        assert_eq!(found(folder, Query::GroupsOfUser, name), 1, "{name}");
    }
    check(&domain, Duration::ZERO);
    check(&domain, Duration::from_secs(5));
    let bob = domain.account("bob");
    for (query, key) in [
        (Query::UserById, bob.uid.to_string()),
        (Query::GroupById, bob.gid.to_string()),
        (Query::GroupByName, "domain_users".to_owned()),
        (Query::GroupByName, "all_staff".to_owned()),
        (Query::GroupByName, "domain_admins".to_owned()),
        (Query::GroupById, (bob.gid - 1).to_string()),
    ] {
        assert_eq!(found(folder, query, &key), 1, "{query:?} {key}");
    }
    for (query, key, answer) in [
        (Query::UserByName, "nosuch".to_owned(), 0),
        (Query::UserById, (bob.gid - 513 + 199_999).to_string(), 0),
        (Query::GroupById, (bob.gid - 513 + 199_999).to_string(), 0),
        (Query::GroupByName, "no_such_group".to_owned(), 0),
        // Below the first number of any domain, and of a domain that is not known.
        (Query::UserById, "150000".to_owned(), 0),
        (Query::UserById, "200001".to_owned(), -1),
        (Query::GroupByName, "a_b_c_d_e_f_g_h_i_j".to_owned(), -1),
        // A machine is nobody.
        (Query::UserByName, "dc1".to_owned(), 0),
    ] {
        assert_eq!(found(folder, query, &key), answer, "{query:?} {key}");
    }
    assert_eq!(domain.account("dave").state, AccountState::Locked);
    let nosuch = domain.client().account("nosuch", Duration::from_secs(5));
    assert_eq!(nosuch.unwrap(), Lookup::NotFound);
    domain.modify("dn: CN=bob,CN=Users,DC=example,DC=test\nchangetype: delete\n");
    support::wait("bob leaves", || {
        (found(folder, Query::UserByName, "bob") == 0).then_some(())
    });
}

/// What sssd's library says to a SID; `None` without it.
fn sssd(sid: &str) -> Option<u32> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/idmap.py");
    let command = format!("echo {sid} | python3 {script}");
    let output = Command::new("sh").args(["-c", &command]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

#[test]
fn people_groups_states_and_passwords() {
    if !has("people_groups_states_and_passwords") {
        return;
    }
    let mut domain = Domain::start();
    domain.serve("ldaps://127.0.0.1", "");
    let sid = fs::read_to_string(domain.path("dc/domain-sid")).unwrap();

    let bob = domain.account("bob");
    assert!(bob.fresh);
    if let Some(first) = sssd(&format!("{sid}-0")) {
        assert_eq!(bob.uid / 200_000, first / 200_000);
        assert_eq!(bob.gid, first + 513);
        // 1000 is the domain controller itself.
        assert!((first + 1001..first + 1200).contains(&bob.uid), "{bob:?}");
    } else {
        println!("sssd's library is not installed; ids are not compared");
    }
    assert_eq!(bob.home, "/home/bob");
    assert_eq!(bob.shell, "/bin/bash");
    assert_eq!(bob.gecos, "Bob Example");
    assert_eq!(bob.ssh_keys.len(), 1);
    assert_eq!(bob.state, AccountState::Active);
    let names = |account: &directory_client::Account| {
        let mut names: Vec<String> = account
            .groups
            .iter()
            .map(|(_, name)| name.clone())
            .collect();
        names.sort();
        names
    };
    // Nested, and the primary group, which no member list has.
    assert_eq!(names(&bob), ["domain_users", "physics", "science"]);
    let carol = domain.account("carol");
    assert_eq!(
        names(&carol),
        ["chemistry", "domain_users", "physics", "science"]
    );
    assert_eq!(
        (carol.home.as_str(), carol.shell.as_str()),
        ("/home/c", "/bin/zsh")
    );
    assert_eq!(domain.account("dave").state, AccountState::Locked);
    assert_eq!(domain.account("erin").state, AccountState::Expired);
    assert_eq!(domain.account("gina").state, AccountState::Hours);
    // Machines are no people.
    let machine = domain
        .client()
        .account("dc1", Duration::from_secs(5))
        .unwrap();
    assert_eq!(machine, Lookup::NotFound);

    let right = domain.secret("person-password");
    let accepted = |must_change| Verdict::Accepted {
        must_change,
        notices: vec![],
    };
    assert_eq!(domain.attempt("bob", &right), accepted(false));
    assert_eq!(domain.attempt("carol", &right), accepted(false));
    assert_eq!(domain.attempt("bob", "wrong"), Verdict::Refused);
    assert_eq!(domain.attempt("dave", &right), Verdict::Refused);
    assert_eq!(domain.attempt("nosuch", &right), Verdict::Refused);
    assert_eq!(domain.attempt("frank", &right), accepted(true));
    assert_eq!(domain.attempt("frank", "wrong"), Verdict::Refused);

    // The change proves itself by the old password, also where nobody may log in before it.
    assert_eq!(
        domain.change("frank", "wrong", "Bb2-another one"),
        Change::WrongPassword
    );
    assert!(matches!(
        domain.change("frank", &right, "x"),
        Change::NotAccepted(_)
    ));
    assert_eq!(
        domain.change("frank", &right, "Bb2-another one"),
        Change::Done
    );
    assert_eq!(domain.attempt("frank", "Bb2-another one"), accepted(false));
    // (Active Directory takes the old one for an hour longer.)

    // That is why nothing is kept of a new one for that long: it might be the old one.
    fs::write(domain.path("offline-secret"), "k".repeat(32)).unwrap();
    let secret = domain.path("offline-secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let table = format!(
        "[offline-passwords]\nsecret-file = \"{}\"\n",
        secret.display()
    );
    domain.serve("ldaps://127.0.0.1", &table);
    assert_eq!(domain.attempt("carol", &right), accepted(false));
    support::wait("that it is not kept", || {
        let log = fs::read_to_string(domain.path("log")).unwrap();
        log.contains("offline.not_kept").then_some(())
    });
    let kept = domain.client().status().unwrap().offline_passwords;
    assert_eq!(kept, Some(0));
    let explanation = domain.client().explain("carol", Duration::from_secs(5));
    let findings = explanation.unwrap().findings;
    assert!(findings.iter().any(|finding| finding.what == "offline"));
    domain.serve("ldaps://127.0.0.1", "");

    // A change of the domain arrives by itself, a deletion too.
    domain.modify(
        "dn: CN=physics,CN=Users,DC=example,DC=test\nchangetype: modify\ndelete: member\n\
         member: CN=bob,CN=Users,DC=example,DC=test\n",
    );
    let groups_of_bob = || {
        let found = domain.client().account("bob", Duration::ZERO).unwrap();
        found.found().map(|bob| names(&bob))
    };
    support::wait("bob leaves physics", || {
        (groups_of_bob()? == ["domain_users"]).then_some(())
    });
    domain.modify("dn: CN=bob,CN=Users,DC=example,DC=test\nchangetype: delete\n");
    support::wait("bob leaves", || groups_of_bob().is_none().then_some(()));

    // A unit of the domain, as customers of AWS have one, is a base too.
    let before = domain.account("carol");
    let unit = "cn=users,dc=example,dc=test";
    let status = domain.serve_under(unit, "ldaps://127.0.0.1", "");
    assert!(status.users > 0 && status.problem.is_empty(), "{status:?}");
    assert_eq!(domain.account("carol").uid, before.uid);

    // The ids of the entries themselves, over StartTLS.
    let status = domain.serve("ldap://127.0.0.1", "id-mapping = false\n");
    assert_eq!(status.users, 1);
    let carol = domain.account("carol");
    assert_eq!((carol.uid, carol.gid), (5002, 5000));
    assert_eq!(names(&carol), ["physics"]);
    assert_eq!(domain.attempt("carol", &right), accepted(false));
}
