//! `login-gateway dev` from the first start to a login by the command that it prints.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::{Command, Output};

/// Runs a script as the user of the world, who has no rights; `$G` is the program.
fn as_user(folder: &std::path::Path, script: &str) -> Output {
    let outer = format!(
        "{} exec setpriv --reuid 1501 --regid 1501 --clear-groups env -i PATH=/usr/bin:/bin \
         HOME=\"$PWD/home\" G=\"$0\" timeout 60 sh -c \"$1\"",
        support::MOUNT
    );
    Command::new("unshare")
        .args(["-m", "sh", "-c", &outer])
        .arg(support::programs().join("login-gateway"))
        .arg(script)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn the_printed_command_logs_in() {
    if !support::possible("the_printed_command_logs_in") {
        return;
    }
    let folder = support::world();
    let script = r#"
        cd "$HOME"
        "$G" dev --listen 127.0.0.1:0 > out 2> log &
        gateway=$!
        while ! grep -q '^    ssh' out; do kill -0 $gateway || exit 1; sleep 0.05; done
        $(grep '^    ssh' out) -F none -o BatchMode=yes 'echo in as $LOGNAME; exit 7'
        echo "status $?"
        ls -l .local/state/login-gateway
        "$G" dev --listen "$(grep -o '127.0.0.1:[0-9]*;' out | tr -d ';')"
        echo "status $?"
        kill -INT $gateway
        wait $gateway
        echo "status $?"
    "#;
    let output = as_user(folder.path(), script);
    let said = said(&output);
    let has = |text: &str| assert!(said.contains(text), "{text}: {said}");
    has("in as carol\nstatus 7\n");
    has("-rw------- 1 carol carol");
    has("Address already in use");
    has("hint: if another program has the port");
    has("status 1\nstatus 0\n");

    // The host is the same at the next start.
    let script = r#"cd "$HOME"; a=$(cksum < .local/state/login-gateway/host_ed25519_key)
        timeout -s INT 2 "$G" dev --listen 127.0.0.1:0 > /dev/null 2>&1
        [ "$a" = "$(cksum < .local/state/login-gateway/host_ed25519_key)" ] && echo same"#;
    assert_eq!(as_user(folder.path(), script).stdout, b"same\n");
}

#[test]
fn without_a_key_it_says_how_to_make_one() {
    if !support::possible("without_a_key_it_says_how_to_make_one") {
        return;
    }
    let folder = support::world();
    let output = as_user(folder.path(), "rm -r \"$HOME/.ssh\"; exec \"$G\" dev");
    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("hint: make one: ssh-keygen -t ed25519"));
}

#[test]
fn a_file_that_it_would_not_read_is_refused() {
    let output = Command::new(support::programs().join("login-gateway"))
        .args(["dev", "--config", "mine.toml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = said(&output);
    assert!(said.contains("does not read 'mine.toml'"), "{said}");
    assert!(said.contains("login-gateway --config mine.toml"), "{said}");
}
