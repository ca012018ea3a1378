//! What a program of a login finds: variables, folder, mask, signals, limits.

use crate::both::{Config, PLAIN, case, host, same};

const SETTINGS: Config = Config {
    theirs: "AcceptEnv LANG LC_* COLOUR\nSetEnv POOL=gpu PLACE=\"two words\"\nPermitUserEnvironment OK_*\n",
    ours: "accept-env = [\"LANG\", \"LC_*\", \"COLOUR\"]\npermit-user-environment = [\"OK_*\"]\n\
           [set-env]\nPOOL = \"gpu\"\nPLACE = \"two words\"\n",
    ..PLAIN
};

// MAIL is a matter of pam_mail with sshd; SLURM_LOGIN_ID is ours.
case!(names_of_a_command, |server| {
    let ann = host().user();
    let done = server.says(
        &ann,
        "env | cut -d= -f1 | grep -vxE 'MAIL|SLURM_LOGIN_ID' | sort",
    );
    same(server, "names", done.ok());
});

case!(names_of_a_command_on_a_terminal, |server| {
    let ann = host().user();
    let done = tests::run(
        server
            .ssh(&ann, &["-tt"])
            .arg("env | cut -d= -f1 | grep -vxE 'MAIL|SLURM_LOGIN_ID' | sort"),
    );
    same(server, "names", done.ok());
});

case!(values, |server| {
    let ann = host().user();
    let done = server.says(
        &ann,
        "echo $USER $LOGNAME $HOME $SHELL $PWD; umask; echo $0",
    );
    same(server, "values", done.ok().replace(&ann.name, "ann"));
});

case!(addresses, |server| {
    let ann = host().user();
    let done = server.says(&ann, "echo $SSH_CLIENT; echo $SSH_CONNECTION");
    let lines: Vec<Vec<&str>> = done.ok().lines().map(|l| l.split(' ').collect()).collect();
    let port = server.port.to_string();
    assert_eq!(lines[0], ["127.0.0.1", lines[1][1], &port]);
    assert_eq!(lines[1], ["127.0.0.1", lines[1][1], "127.0.0.1", &port]);
});

case!(what_the_client_sends, SETTINGS, |server| {
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &["-o", "SendEnv=LC_* COLOUR OTHER"]);
    ssh.env("LC_TIME", "C")
        .env("COLOUR", "blue sky=high")
        .env("OTHER", "no");
    let done = tests::run(ssh.arg("echo \"$LC_TIME/$COLOUR/$OTHER\""));
    assert_eq!(done.ok(), "C/blue sky=high/");
});

case!(many_and_large_variables, SETTINGS, |server| {
    let ann = host().user();
    for (number, size) in [(128, 10), (40, 5000), (1, 100_000)] {
        let mut ssh = server.ssh(&ann, &["-o", "SendEnv=LC_*"]);
        for n in 0..number {
            ssh.env(format!("LC_{n}"), "x".repeat(size));
        }
        // A long command beside them.
        ssh.args([
            ": ",
            &"y".repeat(100_000),
            "; env | grep '^LC_[0-9]*=' | wc -lc",
        ]);
        let shown = tests::run(&mut ssh);
        same(server, &number.to_string(), shown.ok());
        assert!(
            shown.out.trim_start().starts_with(&number.to_string()),
            "{shown:#?}"
        );
    }
});

case!(what_the_server_sets, SETTINGS, |server| {
    let ann = host().user();
    assert_eq!(
        server.says(&ann, "echo \"$POOL/$PLACE\"").ok(),
        "gpu/two words"
    );
    // The server's own stand above the client's.
    let ssh = server.ssh(&ann, &["-o", "SetEnv=POOL=mine COLOUR=red"]);
    let mut ssh = ssh;
    assert_eq!(tests::run(ssh.arg("echo $POOL/$COLOUR")).ok(), "gpu/red");
});

case!(the_users_own_file, SETTINGS, |server| {
    let ann = host().user();
    ann.put(
        ".ssh/environment",
        "# a comment\n\nOK_ONE=1\nNOT=2\nOK_TWO=with = and space\n",
    );
    let done = server.says(&ann, "echo \"$OK_ONE/$NOT/$OK_TWO\"");
    assert_eq!(done.ok(), "1//with = and space");
});

case!(the_users_own_file_counts_for_nothing_by_default, |server| {
    let ann = host().user();
    ann.put(".ssh/environment", "OK_ONE=1\n");
    assert_eq!(server.says(&ann, "echo \"=$OK_ONE\"").ok(), "=");
});

case!(a_command_is_run_by_the_shell_and_is_no_login, |server| {
    let ann = host().user();
    ann.put(".bash_profile", "echo profile\n");
    ann.put(".bashrc", "echo rc\n");
    let done = server.says(&ann, "shopt -q login_shell || echo plain");
    same(server, "output", done.ok());
    assert!(
        !done.out.contains("profile") && done.out.contains("plain"),
        "{done:#?}"
    );
});

case!(the_shell_gets_the_command_as_one_word, |server| {
    let ann = host().user();
    let done = server.says(
        &ann,
        "printf '%s\\n' 'a  b' \"$((1+1))\" $'tab\\there' \\\\",
    );
    assert_eq!(done.ok(), "a  b\n2\ntab\there\n\\");
});

case!(a_command_of_bytes_that_are_no_text, |server| {
    use std::os::unix::ffi::OsStrExt;
    let ann = host().user();
    let mut ssh = server.ssh(&ann, &[]);
    ssh.arg(std::ffi::OsStr::from_bytes(
        b"printf '\xff\xe9' | od -An -tx1",
    ));
    assert_eq!(tests::run(&mut ssh).ok().trim(), "ff e9");
});

case!(signals_and_limits, |server| {
    let ann = host().user();
    // Ours go first when memory runs out: login-gateway/tests/operation.rs.
    let done = server.says(
        &ann,
        "grep -E '^Sig(Blk|Ign)|^Cap|NoNewPrivs' /proc/self/status; ulimit -a | grep -v pending",
    );
    same(server, "state", done.ok());
});

case!(session_and_groups, |server| {
    let ann = host().user();
    let done = server.says(&ann, "set -- $(ps -o pid=,sid=,pgid= -p $$); [ $1 = $2 ] && [ $1 = $3 ] && echo leader; id -un; id -G | wc -w; pwd");
    same(server, "session", done.ok().replace(&ann.name, "ann"));
});

case!(descriptors, |server| {
    let ann = host().user();
    let done = server.says(&ann, "exec ls -m /proc/self/fd");
    // 3 is the folder itself.
    assert_eq!(done.ok(), "0, 1, 2, 3");
});

case!(a_home_that_is_not_there, |server| {
    let ann = host().user();
    // The key must come from elsewhere than the home.
    host().write(format!("/etc/keys/{}", ann.name), ann.public_key());
    std::fs::rename(&ann.files, ann.files.with_extension("away")).unwrap();
    let done = tests::run(server.ssh(&ann, &[]).arg("pwd"));
    assert!(done.code == 255 || done.ok() == "/", "{done:#?}");
});

case!(rc_of_the_user, |server| {
    let ann = host().user();
    ann.put(".ssh/rc", "echo rc of $USER >>rc.log; cat >/dev/null\n");
    assert_eq!(
        server.feed(&ann, "cat", b"input is left alone").ok(),
        "input is left alone"
    );
    assert_eq!(ann.read("rc.log"), format!("rc of {}\n", ann.name));
});

case!(rc_that_prints, |server| {
    let ann = host().user();
    ann.put(".ssh/rc", "echo from rc\n");
    same(server, "output", server.says(&ann, "echo then").ok());
});
