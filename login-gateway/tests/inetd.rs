//! `login-gateway inetd` as ssh's ProxyCommand, as systemd and as inetd start it: pipes, a TCP
//! socket, a Unix socket, as root and as the user.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Runs a script in the world's namespace; `$G` is the program, `$S` an ssh that logs in by the
/// ProxyCommand that follows.
fn run(folder: &Path, script: &str) -> Output {
    let outer = format!("{} exec timeout 120 sh -c \"$1\"", support::MOUNT);
    let ssh = "ssh -F none -i home/.ssh/id_ed25519 -o BatchMode=yes -o LogLevel=ERROR \
               -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o";
    Command::new("unshare")
        .args(["-m", "sh", "-c", &outer, "sh", script])
        .env("G", support::programs().join("login-gateway"))
        .env("S", ssh)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn world() -> tempfile::TempDir {
    let folder = support::world();
    fs::write(
        folder.path().join("gateway.toml"),
        support::configuration(folder.path(), ""),
    )
    .unwrap();
    folder
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn behind_a_proxy_command() {
    if !support::possible("behind_a_proxy_command") {
        return;
    }
    let folder = world();
    let script = r#"
        P="ProxyCommand=$G inetd --config $PWD/gateway.toml -E $PWD/log"
        $S "$P" carol@x 'id -un; echo $SSH_CONNECTION; exit 3'; echo "status $?"
        # More than all buffers on the way, both ways at once.
        head -c 20000000 /dev/zero | $S "$P" carol@x 'cat; exit 5' | wc -c
        $S "$P" carol@x 'head -c 20000000 /dev/zero' | wc -c
        while [ "$(grep -c session.closed log)" -lt 3 ]; do sleep 0.1; done
    "#;
    let output = run(folder.path(), script);
    let nobody = "0.0.0.0 65535";
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("carol\n{nobody} {nobody}\nstatus 3\n20000000\n20000000\n"),
        "{}",
        said(&output)
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn as_a_user_for_that_user_alone() {
    if !support::possible("as_a_user_for_that_user_alone") {
        return;
    }
    let folder = world();
    let script = r#"
        A="setpriv --reuid 1501 --regid 1501 --clear-groups env -i PATH=/usr/bin:/bin HOME=$PWD/home"
        P="ProxyCommand=$A $G inetd -E $PWD/home/log"
        $S "$P" carol@x 'id -un'; echo "status $?"
        $S "$P" nobody@x 'id -un'; echo "status $?"
        cp host home/host; chown carol home/host
        sed 's/^host-keys.*/host-keys = ["home\/host"]/' gateway.toml > home/gateway.toml
        P="ProxyCommand=$A $G inetd --config home/gateway.toml -E $PWD/home/log2"
        $S "$P" carol@x 'id -un; exit 9'; echo "status $?"
    "#;
    let output = run(folder.path(), script);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        out,
        "carol\nstatus 0\nstatus 255\ncarol\nstatus 9\n",
        "{}",
        said(&output)
    );
}

#[test]
fn what_fails_has_an_exit_code_and_a_reason() {
    if !support::possible("what_fails_has_an_exit_code_and_a_reason") {
        return;
    }
    let folder = world();
    let script = r#"
        printf 'garbage\r\n' | "$G" inetd --config gateway.toml > out; echo "status $?"
        "$G" inetd --config gateway.toml < /dev/null > out; echo "status $?"
        "$G" inetd --config missing < /dev/null; echo "status $?"
        "$G" inetd --config gateway.toml -E no/such < /dev/null; echo "status $?"
        sed 's/^host-keys.*/host-keys = ["pam.d\/login-gateway"]/' gateway.toml > broken
        "$G" inetd --config broken < /dev/null; echo "status $?"
    "#;
    let output = run(folder.path(), script);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        out,
        "status 255\nstatus 255\nstatus 78\nstatus 1\nstatus 255\n",
        "{}",
        said(&output)
    );
    let error = String::from_utf8_lossy(&output.stderr);
    for reason in [
        "no SSH greeting: 'garbage'",
        "the connection ended before a login",
        "open log file 'no/such'",
        "may be read by others",
    ] {
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

/// Starts the program on this socket, standard error included, as inetd does.
fn on_socket(folder: &Path, socket: OwnedFd) -> Child {
    let script = format!(
        "{} exec \"$0\" inetd --config \"$PWD/gateway.toml\"",
        support::MOUNT
    );
    let copy = || Stdio::from(socket.try_clone().unwrap());
    Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .arg(support::programs().join("login-gateway"))
        .current_dir(folder)
        .stdin(copy())
        .stdout(copy())
        .stderr(copy())
        .spawn()
        .unwrap()
}

fn ssh(folder: &Path) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
        .args(["-o", "UserKnownHostsFile=/dev/null"])
        .args(["-o", "StrictHostKeyChecking=no", "-i"])
        .arg(folder.join("home/.ssh/id_ed25519"));
    ssh
}

#[test]
fn on_a_tcp_socket() {
    if !support::possible("on_a_tcp_socket") {
        return;
    }
    let folder = world();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = ssh(folder.path())
        .args(["-p", &port.to_string(), "carol@127.0.0.1"])
        .arg("echo $SSH_CONNECTION")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (socket, from): (TcpStream, _) = listener.accept().unwrap();
    let mut server = on_socket(folder.path(), socket.into());
    let output = client.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("127.0.0.1 {} 127.0.0.1 {port}\n", from.port())
    );
    assert!(server.wait().unwrap().success());
}

#[test]
fn on_a_unix_socket() {
    if !support::possible("on_a_unix_socket") {
        return;
    }
    let folder = world();
    if !Path::new("/usr/bin/python3").exists() {
        println!("skipped: on_a_unix_socket needs python3");
        return;
    }
    let at = |name: &str| folder.path().join(name).display().to_string();
    let listener = UnixListener::bind(at("socket")).unwrap();
    // ssh's own way to speak on a socket of another kind: its ProxyCommand sends it one.
    let pass = "import array, socket, sys\n\
                ours = socket.socket(socket.AF_UNIX)\n\
                ours.connect(sys.argv[1])\n\
                fds = array.array('i', [ours.fileno()])\n\
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]\n\
                socket.socket(fileno=1).sendmsg([b'x'], rights)\n";
    fs::write(at("pass.py"), pass).unwrap();
    let proxy = format!(
        "ProxyCommand=/usr/bin/python3 {} {}",
        at("pass.py"),
        at("socket")
    );
    let client = ssh(folder.path())
        .args([
            "-o",
            "ProxyUseFdpass=yes",
            "-o",
            &proxy,
            "carol@x",
            "id -un",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (socket, _) = listener.accept().unwrap();
    let mut server = on_socket(folder.path(), socket.into());
    let output = client.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "carol\n");
    assert!(server.wait().unwrap().success());
}
