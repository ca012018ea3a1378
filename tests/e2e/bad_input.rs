//! Garbage on every socket, configuration with every kind of fault: a clear message or a clean
//! close, and everybody else goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::{lab, repo, run};

const NOISE: [&[u8]; 5] = [
    b"",
    b"GET / HTTP/1.1\r\n\r\n",
    &[0xff; 70_000],
    &[0; 12],
    b"\x2a\x00\x00\x00\x00\x08\x00\x00\x00\x01",
];

/// Opens as many connections as it may, says so, and holds them until its input ends.
const CROWD: &str = "use IO::Socket::UNIX; my @all; \
    for (1..300) { my $s = IO::Socket::UNIX->new($ARGV[0]) or last; push @all, $s } \
    $| = 1; print \".\"; 1 while <STDIN>;";

/// A socket of the pod, through the file system of the gateway's first process.
fn socket(path: &str) -> PathBuf {
    let inspect = ["inspect", "--format", "{{.State.Pid}}"];
    let pid = lab().podman(&inspect, "pod-0-gateway");
    PathBuf::from(format!("/proc/{}/root{path}", pid.ok()))
}

#[test]
fn garbage_on_the_local_sockets() {
    let lab = lab();
    let (alice, bob) = (lab.person("alice"), lab.person("bob"));
    for path in [
        "/run/slurm/sack.socket",
        "/run/nscd/socket",
        "/run/directoryd/control.sock",
    ] {
        // A crowd of somebody else's that says nothing, and stays while the others are served.
        let mut crowd = lab.ssh_with(&bob, &[]);
        crowd
            .arg(format!("perl -e '{CROWD}' {path}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut crowd = crowd.spawn().unwrap();
        let mut count = [0; 1];
        crowd
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut count)
            .unwrap();
        let path = socket(path);
        for noise in NOISE {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            let _ = stream.write_all(noise);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let read = stream.take(1 << 20).read_to_end(&mut answer);
            let hung = read.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!hung, "{path:?} {:?}", &noise[..noise.len().min(12)]);
        }
        println!("{}", path.display());
        assert_eq!(
            lab.ssh(&alice, "id -un && sinfo -h -o %P >/dev/null && echo ok")
                .ok(),
            "alice\nok"
        );
        drop(crowd.stdin.take());
        assert!(crowd.wait().unwrap().success());
    }
}

#[test]
fn garbage_on_the_health_port() {
    let port = std::env::var("LAB_HEALTH_PORT").unwrap_or_else(|_| "18080".into());
    for (request, start) in [
        ("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200"),
        ("GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1."),
        ("GET /../etc/passwd HTTP/1.1\r\n\r\n", "HTTP/1.1 404"),
        ("POST /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 405"),
        ("nonsense\r\n\r\n", "HTTP/1.1 400"),
    ] {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(start), "{request:?}: {answer:?}");
        assert!(!answer.contains("root:"));
    }
}

fn check(program: &str, file: &Path, text: &str) -> tests::Done {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
    let program = repo().join(".lab/programs").join(program);
    run(Command::new(program).arg("check").arg("--config").arg(file))
}

#[test]
fn configuration_faults_are_named_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "x".repeat(1024)).unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o644)).unwrap();
    let secret = secret.display();
    let name = file.display().to_string();
    for (program, text, expected) in [
        (
            "login-gateway",
            "\ncolour = 1\n".to_owned(),
            ":2:1: unknown field `colour`",
        ),
        (
            "login-gateway",
            "max-startups = \"many\"\n".to_owned(),
            ":1:16: invalid type",
        ),
        (
            "login-gateway",
            "login-grace-time = \"soon\"\n".to_owned(),
            ":1:20: 'soon' is not a duration",
        ),
        (
            "login-gateway",
            format!("host-keys = [\"{secret}\"]\n"),
            "may be read by others",
        ),
        (
            "login-gateway",
            "host-keys = [\"/nonexistent\"]\n".to_owned(),
            "/nonexistent",
        ),
        (
            "sackd-shim",
            "colour = 1\n".to_owned(),
            ":1:1: unknown field `colour`",
        ),
        (
            "sackd-shim",
            format!("slurm-user = \"nobody\"\nkey-file = \"{secret}\"\n"),
            "others",
        ),
        (
            "directoryd",
            "colour = 1\n".to_owned(),
            ":1:1: unknown field `colour`",
        ),
        (
            "directoryd",
            "minimum-id = \"x\"\n".to_owned(),
            ":1:14: invalid type",
        ),
    ] {
        let done = check(program, &file, &text);
        let said = format!("{}{}", done.out, done.err);
        assert_eq!(done.code, 78, "{program} {text:?}: {said}");
        assert!(said.contains(expected), "{program} {text:?}: {said}");
        if expected.starts_with(':') {
            assert!(said.contains(&format!("{name}{expected}")), "{said}");
        }
    }
    // Who may write the file decides what root does, so others may not.
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    for program in ["login-gateway", "sackd-shim", "directoryd"] {
        let mut command = Command::new(repo().join(".lab/programs").join(program));
        let done = run(command.arg("check").arg("--config").arg(&file));
        assert_eq!(done.code, 78, "{program}: {done:?}");
        assert!(
            format!("{}{}", done.out, done.err).contains("may be written by"),
            "{program}: {done:?}"
        );
    }
}
