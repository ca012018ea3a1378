//! What a program of a login is given: variables, mask, limits, folder, `~/.ssh/rc`.

use std::os::unix::fs::PermissionsExt;

use tests::{Start, run};

use crate::host;

#[test]
fn the_login_is_known_by_its_id() {
    let Some(host) = host("program::the_login_is_known_by_its_id") else {
        return;
    };
    let server = host.gateway("");
    let ann = host.user();
    let id = server.says(&ann, "echo $SLURM_LOGIN_ID");
    let id = id.ok();
    assert_eq!(id.len(), 8, "{id}");
    server.logged(&format!("login={id}"));
}

#[test]
fn mask_limits_and_zone_reach_the_shell() {
    let Some(host) = host("program::mask_limits_and_zone_reach_the_shell") else {
        return;
    };
    host.write(
        "/etc/security/limits.people",
        "* hard nofile 777\n* soft core 5\n",
    );
    host.write("/etc/env.people", "FROM_PAM=yes\nLANG=C.UTF-8\n");
    let pam = "auth required pam_permit.so\naccount required pam_permit.so\n\
               session required pam_env.so envfile=/etc/env.people\n\
               session required pam_limits.so conf=/etc/security/limits.people\n\
               session optional pam_umask.so umask=0027\n";
    let start = |config: &str| Start {
        config: config.into(),
        pam: Some(pam.into()),
        environment: vec![
            ("TZ".into(), "Asia/Tokyo".into()),
            ("SECRET".into(), "x".into()),
        ],
    };
    let server = host.gateway(start(""));
    let ann = host.user();
    let script = "ulimit -Hn; ulimit -Sc; umask; echo $FROM_PAM $LANG $TZ $SECRET";
    let expected = "777\n5\n0027\nyes C.UTF-8 Asia/Tokyo";
    assert_eq!(server.says(&ann, script).ok(), expected);
    let on_terminal = run(server.ssh(&ann, &["-tt"]).arg(script));
    assert_eq!(on_terminal.ok().replace('\r', ""), expected);
    let masked = host.gateway(start("umask = \"077\"\n"));
    assert_eq!(masked.says(&ann, "umask").ok(), "0077");
    let on_terminal = run(masked.ssh(&ann, &["-tt"]).arg("umask"));
    assert_eq!(on_terminal.ok(), "0077");
}

/// Everything that can set a variable sets `A`, and each of them one of its own.
#[test]
fn the_environment_is_that_of_sshd() {
    let Some(host) = host("program::the_environment_is_that_of_sshd") else {
        return;
    };
    host.write(
        "/etc/env.whole",
        "PATH=/usr/bin:/bin\nLANG=C.UTF-8\nPAM=pam\nBOTH=pam\nUSER=pam\nTERM=pam\n\
         SSH_AUTH_INFO_9=x\nTZ=UTC\nXDG_RUNTIME_DIR=/run/user/@{PAM_USER}\n",
    );
    let pam = format!(
        "{}session required pam_env.so envfile=/etc/env.whole\n",
        tests::PAM
    );
    let start = |config: &str| Start {
        config: config.into(),
        pam: Some(pam.clone()),
        environment: vec![
            ("TZ".into(), "Asia/Tokyo".into()),
            ("OTHER".into(), "x".into()),
        ],
    };
    let servers = [
        host.sshd(start(
            "AcceptEnv A B LC_* USER LANG\nSetEnv SET=set BOTH=set SSH_CLIENT=x\n\
             PermitUserEnvironment A,B,FILE,KEY,PAM,SET,TERM,HOME,SSH_TTY\n",
        )),
        host.gateway(start(
            "accept-env = [\"A\", \"B\", \"LC_*\", \"USER\", \"LANG\"]\n\
             permit-user-environment = [\"A\", \"B\", \"FILE\", \"KEY\", \"PAM\", \"SET\", \
             \"TERM\", \"HOME\", \"SSH_TTY\"]\n\
             set-env = { SET = \"set\", BOTH = \"set\", SSH_CLIENT = \"x\" }\n",
        )),
    ];
    let ann = host.user();
    ann.put(
        ".ssh/environment",
        "A=file\nFILE=file\nPAM=file\nSET=file\nTERM=file\nHOME=/tmp\nSSH_TTY=file\nNOT=file\n",
    );
    ann.put(
        ".ssh/authorized_keys",
        format!(
            "environment=\"A=key\",environment=\"KEY=key\",environment=\"FILE=key\",\
             environment=\"NOT=key\" {}",
            ann.public_key()
        ),
    );
    for options in [&[][..], &["-tt"]] {
        let [theirs, ours] = servers.each_ref().map(|server| {
            let mut ssh = server.ssh(&ann, options);
            for name in ["A", "B", "LC_TIME", "USER", "LANG", "C"] {
                ssh.args(["-o", &format!("SendEnv={name}")])
                    .env(name, "client");
            }
            let done = run(ssh.arg("env -0 | sort -z | tr '\\0' '\\n'"));
            let plain = |line: &&str| {
                // Of the connection, of ours alone, of the shell; MAIL is left to pam_mail by
                // Debian's sshd when it has PAM.
                ![
                    "SSH_CONNECTION=",
                    "SSH_CLIENT=",
                    "SLURM_LOGIN_ID=",
                    "MAIL=",
                    "_=",
                    "SSH_TTY=",
                ]
                .iter()
                .any(|name| line.starts_with(name))
            };
            let text = done.ok().replace('\r', "");
            text.lines()
                .filter(plain)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        });
        assert!(theirs.len() > 10, "{theirs:?}");
        assert_eq!(ours, theirs, "{options:?}");
    }
}

#[test]
fn a_terminal_starts_a_program_with_nothing_left_over() {
    let Some(host) = host("program::a_terminal_starts_a_program_with_nothing_left_over") else {
        return;
    };
    let server = host.gateway("motd-command = \"true\"\n");
    let ann = host.user();
    ann.put(".ssh/rc", "true\n");
    let signals = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let script = format!("{signals}; ls /proc/self/fd | wc -l; umask");
    let plain = server.says(&ann, &script);
    let on_terminal = run(server.ssh(&ann, &["-tt"]).arg(&script));
    assert_eq!(on_terminal.ok().replace('\r', ""), plain.ok());
    // Three, and the folder that ls reads.
    assert!(plain.ok().contains("\n4\n"), "{plain:#?}");
    let mut leader = server.ssh(&ann, &["-tt"]);
    let leader = run(leader.arg("set -- $(ps -o pid=,sid=,pgid=,tpgid= -p $$); echo $(($1 == $2)) $(($1 == $3)) $(($1 == $4))"));
    assert_eq!(leader.ok(), "1 1 1");
}

#[test]
fn a_missing_home_is_said_and_the_shell_starts_in_the_root() {
    let Some(host) = host("program::a_missing_home_is_said_and_the_shell_starts_in_the_root")
    else {
        return;
    };
    let ann = host.user();
    host.write(format!("/etc/keys.people/{}", ann.name), ann.public_key());
    let server = host.gateway("authorized-keys-files = [\"/etc/keys.people/%u\"]\n");
    let away = ann.files.with_extension("away");
    std::fs::rename(&ann.files, &away).unwrap();
    let said = format!(
        "Could not chdir to home directory {}: No such file or directory",
        ann.home.display()
    );
    let done = server.says(&ann, "pwd");
    assert_eq!((done.ok(), done.err.trim_end()), ("/", said.as_str()));
    let on_terminal = run(server.ssh(&ann, &["-tt"]).arg("pwd"));
    assert_eq!(on_terminal.out, format!("{said}\r\n/\r\n"));
    std::fs::rename(away, &ann.files).unwrap();
    std::fs::set_permissions(&ann.files, PermissionsExt::from_mode(0o000)).unwrap();
    let done = server.says(&ann, "pwd");
    let said = said.replace("No such file or directory", "Permission denied");
    // Then bash has words of its own for its .bashrc.
    assert_eq!(
        (done.ok(), done.err.lines().next()),
        ("/", Some(said.as_str()))
    );
}

#[test]
fn how_one_authenticated_can_be_shown() {
    let Some(host) = host("program::how_one_authenticated_can_be_shown") else {
        return;
    };
    let ann = host.user();
    let plain = host.gateway("");
    assert_eq!(plain.says(&ann, "echo =$SSH_USER_AUTH").ok(), "=");
    let server = host.gateway("expose-auth-info = true\n");
    let done = server.says(
        &ann,
        "stat -c '%a %U' $SSH_USER_AUTH; echo $SSH_USER_AUTH; cat $SSH_USER_AUTH",
    );
    let lines: Vec<&str> = done.ok().lines().collect();
    assert_eq!(lines[0], format!("600 {}", ann.name));
    let path = host.path(lines[1]);
    tests_gone(&path);
    if lines.len() > 2 {
        let key = ann.public_key();
        let key: Vec<&str> = key.split(' ').take(2).collect();
        assert_eq!(lines[2], format!("publickey {}", key.join(" ")));
    }
}

/// Waits until a file is gone: a login's end is not its command's.
fn tests_gone(path: &std::path::Path) {
    let end = std::time::Instant::now() + tests::SOON;
    while path.exists() {
        assert!(std::time::Instant::now() < end, "{} stays", path.display());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn rc_of_the_administrator() {
    let Some(host) = host("program::rc_of_the_administrator") else {
        return;
    };
    let ann = host.user();
    let server = host.gateway("");
    let closed = host.gateway("permit-user-rc = false\n");
    host.write(
        "/etc/ssh/sshrc",
        "[ \"$USER\" != ANN ] || echo system rc\n".replace("ANN", &ann.name),
    );
    assert_eq!(server.says(&ann, "echo a").ok(), "system rc\na");
    ann.put(
        ".ssh/rc",
        "read line || echo own rc in $PWD; echo err >&2\n",
    );
    let own = server.says(&ann, "echo a");
    let expected = format!("own rc in {}\na", ann.home.display());
    assert_eq!((own.ok(), own.err.trim_end()), (expected.as_str(), "err"));
    assert_eq!(closed.says(&ann, "echo a").ok(), "system rc\na");
    // One that fails or is killed stops nothing; its background processes neither.
    ann.put(".ssh/rc", "sleep 1000 >/dev/null 2>&1 & kill -9 $$\n");
    assert_eq!(server.says(&ann, "echo a").ok(), "a");
    std::fs::remove_file(host.path("/etc/ssh/sshrc")).unwrap();
}

#[test]
fn text_of_bashrc_troubles_nobody_more_than_under_sshd() {
    let Some(host) = host("program::text_of_bashrc_troubles_nobody_more_than_under_sshd") else {
        return;
    };
    let ann = host.user();
    ann.put(".bashrc", "echo rc $SHLVL $-\n");
    ann.put(".bash_profile", "echo profile\n");
    let (mut shown, mut codes) = (Vec::new(), Vec::new());
    for server in [host.sshd(""), host.gateway("")] {
        let plain = server.says(&ann, "echo a");
        let terminal = run(server.ssh(&ann, &["-tt"]).arg("echo a"));
        let nested = server.says(&ann, "bash -c 'echo b'");
        let mut sftp = server.client("sftp", &ann, &["-b", "-", "127.0.0.1"]);
        let sftp = tests::run_with(&mut sftp, b"pwd\n", std::time::Duration::from_secs(60));
        shown.push((plain.out, terminal.out, nested.out));
        codes.push(sftp.code);
    }
    assert_eq!(shown[0], shown[1]);
    // sshd starts its file server by the login shell, whose text breaks the protocol; ours does not.
    assert_eq!(codes, [255, 0]);
}
