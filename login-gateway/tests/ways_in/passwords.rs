//! Passwords, dialogues, new passwords, one-time passwords.

use std::fs;

use crate::host::{ALICE, BOB, Host, PAM, possible, run};

const BOTH: &str = "authentication-methods = [\"password\", \"keyboard-interactive\"]";
const OATH: &str = "/usr/lib/x86_64-linux-gnu/security/pam_oath.so";

#[test]
fn right_and_wrong_ones() {
    if !possible("passwords::right_and_wrong_ones", &[]) {
        return;
    }
    let host = Host::start(BOTH, PAM, |_| {});
    for methods in ["password", "keyboard-interactive"] {
        let login = |user, answers: &[&'static str]| {
            let once = "NumberOfPasswordPrompts=1";
            host.login(user)
                .methods(methods)
                .option(once)
                .types(answers)
                .run()
        };
        let good = login("alice", &[ALICE]);
        assert!(good.ok && good.out == "in as alice\n", "{good:?}");
        assert_eq!(good.prompts.len(), 1, "{good:?}");
        // A wrong password, a name that nobody has, one without a password, root, a name that is
        // none: the same prompts, the same words.
        let refused = login("alice", &["wrong"]);
        assert!(!refused.ok, "{refused:?}");
        for user in ["nosuchuser", "carol", "root", "a b", "+x"] {
            let other = login(user, &["wrong"]);
            assert!(!other.ok, "{other:?}");
            let words = |text: &str| text.replace(user, "alice");
            assert_eq!(words(&other.err), refused.err, "{user}");
            let prompts: Vec<String> = other.prompts.iter().map(|p| words(p)).collect();
            assert_eq!(prompts, refused.prompts, "{user}");
            // Padded to the same time, which the slowest step does not exceed.
            let near = other.took.as_millis().abs_diff(refused.took.as_millis());
            assert!(
                other.took.as_secs() >= 2 && near < 1900,
                "{user} {other:?} {refused:?}"
            );
        }
        let empty = login("alice", &[""]);
        assert!(!empty.ok, "{empty:?}");
    }
    let log = host.log();
    assert!(!log.contains(ALICE), "a password in the log");
    assert!(log.contains("method=\"keyboard-interactive\"") && log.contains("auth.accepted"));
}

#[test]
fn several_tries_and_no_more_than_allowed() {
    if !possible("passwords::several_tries_and_no_more_than_allowed", &[]) {
        return;
    }
    let more = format!("{BOTH}\nmax-auth-tries = 3");
    let host = Host::start(&more, PAM, |_| {});
    let login = |answers: &[&'static str]| {
        let many = "NumberOfPasswordPrompts=9";
        host.login("alice")
            .methods("password")
            .option(many)
            .types(answers)
            .run()
    };
    let third = login(&["a", "b", ALICE]);
    assert!(third.ok, "{third:?}");
    let fourth = login(&["a", "b", "c", ALICE]);
    assert!(!fourth.ok, "{fourth:?}");
    assert!(fourth.err.contains("Too many authentication"), "{fourth:?}");
}

#[test]
fn one_that_must_be_changed_is_changed_in_the_dialogue() {
    if !possible("passwords::one_that_must_be_changed", &[]) {
        return;
    }
    let more = "authentication-methods = [\"keyboard-interactive\"]\n\
                [[match]]\nuser = [\"bob\"]\nsource = [\"127.0.0.1/32\"]\n\
                authentication-methods = [\"password\", \"keyboard-interactive\"]";
    let host = Host::start(more, PAM, |_| {});
    let refused = host.login("bob").methods("password").types(&[BOB]).run();
    assert!(!refused.ok, "{refused:?}");
    host.logged("password.must_change", 1);
    let new = "brand new & unguessed 7";
    let types = [BOB, BOB, new, new];
    let changed = host
        .login("bob")
        .methods("keyboard-interactive")
        .types(&types)
        .run();
    assert!(changed.ok && changed.out == "in as bob\n", "{changed:?}");
    let shadow = fs::read_to_string(host.path("etc/shadow")).unwrap();
    assert!(
        shadow
            .lines()
            .any(|l| l.starts_with("bob:$6$") && !l.contains(":0:0:")),
        "{shadow}"
    );
    let old = host
        .login("bob")
        .methods("keyboard-interactive")
        .types(&[BOB])
        .run();
    assert!(!old.ok, "{old:?}");
    let again = host
        .login("bob")
        .methods("keyboard-interactive")
        .types(&[new])
        .run();
    assert!(again.ok, "{again:?}");
}

#[test]
fn a_key_whose_owner_must_change_the_password_leads_to_the_dialogue() {
    if !possible("passwords::a_key_whose_owner_must_change", &[]) {
        return;
    }
    let host = Host::start("", PAM, |_| {});
    let new = "brand new & unguessed 7";
    let changed = host
        .login("bob")
        .key("id")
        .types(&[BOB, BOB, new, new])
        .run();
    assert!(changed.ok && changed.out == "in as bob\n", "{changed:?}");
    let without = host.login("bob").key("id").types(&[]).run();
    assert!(without.ok && without.prompts.is_empty(), "{without:?}");
}

#[test]
fn one_time_passwords() {
    if !possible(
        "passwords::one_time_passwords",
        &[OATH, "/usr/bin/oathtool"],
    ) {
        return;
    }
    let secret = "3132333435363738393031323334353637383930";
    let pam = "auth required pam_unix.so\n\
               auth required pam_oath.so usersfile=/etc/users.oath window=20 digits=6\n\
               account required pam_unix.so\nsession required pam_permit.so\n";
    let host = Host::start(
        "authentication-methods = [\"keyboard-interactive\"]",
        pam,
        |folder| {
            let file = folder.join("etc/users.oath");
            fs::write(&file, format!("HOTP/T30/6 alice - {secret}\n")).unwrap();
            run("chmod", &["600", &file.display().to_string()]);
        },
    );
    let code = run("oathtool", &["--totp", secret]).trim().to_owned();
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let refused = host
        .login("alice")
        .option("NumberOfPasswordPrompts=1")
        .types(&[ALICE, wrong])
        .run();
    assert!(!refused.ok, "{refused:?}");
    let good = host.login("alice").types(&[ALICE, &code]).run();
    assert!(good.ok, "{good:?}");
    assert_eq!(good.prompts.len(), 2, "{good:?}");
    assert!(good.prompts[1].contains("One-time password"), "{good:?}");
    // A code is good once.
    let again = host
        .login("alice")
        .option("NumberOfPasswordPrompts=1")
        .types(&[ALICE, &code])
        .run();
    assert!(!again.ok, "{again:?}");
}

#[test]
fn what_pam_says_is_shown() {
    if !possible("passwords::what_pam_says_is_shown", &[]) {
        return;
    }
    let pam = format!("auth optional pam_echo.so Mind the gap.\n{PAM}");
    let host = Host::start(BOTH, &pam, |_| {});
    let said = host
        .login("alice")
        .methods("keyboard-interactive")
        .types(&[ALICE])
        .run();
    assert!(said.ok, "{said:?}");
    assert!(
        said.err.contains("Mind the gap.") || said.prompts[0].contains("Mind the gap."),
        "{said:?}"
    );
}
