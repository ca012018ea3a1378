//! Libraries: paramiko, Fabric, asyncssh, libssh2, libssh, node's ssh2, Go's x/crypto, Java's JSch
//! and Apache MINA SSHD. Each has a script beside this file that prints what it saw.

use std::process::Command;

use crate::world::{World, lab, possible, python};

#[track_caller]
fn script(world: &World, program: &mut Command) {
    let mut command = Command::new(program.get_program());
    command
        .args(program.get_args())
        .envs(world.environment())
        .env_remove("SSH_AUTH_SOCK")
        .current_dir(&world.here);
    for (name, value) in program.get_envs() {
        command.env(name, value.unwrap());
    }
    let done = tests::run_with(&mut command, b"", tests::SOON * 3);
    assert_eq!(done.ok().lines().last(), Some("all is well"), "{done:#?}");
    world.carried("there", "back");
}

fn at(name: &str) -> std::path::PathBuf {
    tests::repo().join("tests/clients").join(name)
}

macro_rules! python {
    ($name:ident, $module:literal, $file:literal) => {
        #[test]
        fn $name() {
            if possible(stringify!($name), &[concat!("python:", $module)]) {
                script(&World::new(), Command::new(python()).arg(at($file)));
            }
        }
    };
}

python!(paramiko, "paramiko", "with_paramiko.py");
python!(fabric, "fabric", "with_fabric.py");
python!(asyncssh, "asyncssh", "with_asyncssh.py");
python!(libssh2, "ssh2", "with_libssh2.py");
python!(libssh, "ssh", "with_libssh.py");

#[test]
fn node_ssh2() {
    let modules = lab().join("node/node_modules");
    if possible(
        "node's ssh2",
        &["node", &modules.join("ssh2").display().to_string()],
    ) {
        script(
            &World::new(),
            Command::new("node")
                .arg(at("with_node.js"))
                .env("NODE_PATH", modules),
        );
    }
}

#[test]
fn go_x_crypto() {
    let source = "/usr/share/gocode/src/golang.org/x/crypto/ssh";
    if !possible("Go's x/crypto", &["go", source]) {
        return;
    }
    let world = World::new();
    let program = world.here.join("client");
    let mut build = Command::new("go");
    build
        .args(["build", "-o"])
        .arg(&program)
        .arg(at("with_go.go"));
    build
        .env("GOPATH", "/usr/share/gocode")
        .env("GO111MODULE", "off")
        .env("GOCACHE", lab().join("go"));
    build
        .env("GOFLAGS", "-buildvcs=false")
        .env("HOME", &world.here);
    tests::run_with(&mut build, b"", tests::SOON * 10).ok();
    script(&world, &mut Command::new(program));
}

/// Of 2018: keys and host keys are ECDSA, there are no AEAD ciphers, and keys are in PEM.
#[test]
fn java_jsch() {
    let library = "/usr/share/java/jsch.jar";
    if !possible("Java's JSch", &["java", "javac", library]) {
        return;
    }
    let world = World::compatible();
    let pem = world.here.join("pem");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-f"]);
    tests::run(keygen.arg(&pem)).ok();
    let public = std::fs::read_to_string(world.here.join("pem.pub")).unwrap();
    world.user.put(".ssh/authorized_keys", public);
    let key = crate::world::host().folder().join("host_ecdsa.pub");
    let key = std::fs::read_to_string(key).unwrap();
    let known = format!("[127.0.0.1]:{} {key}", world.server.port);
    std::fs::write(world.here.join("known"), known).unwrap();
    let mut java = Command::new("java");
    java.args(["-cp", library]);
    script(&world, java.arg(at("WithJsch.java")));
}

#[test]
fn java_mina() {
    let jars = lab().join("clients/java/usr/share/java");
    let first = jars.join("sshd-core.jar");
    if !possible(
        "Apache MINA SSHD",
        &["java", "javac", first.to_str().unwrap()],
    ) {
        return;
    }
    let world = World::new();
    let names = "sshd-core sshd-common sshd-sftp sshd-scp eddsa bcprov bcpkix slf4j-api slf4j-nop jcl-over-slf4j";
    let paths: Vec<_> = names
        .split(' ')
        .map(|name| jars.join(format!("{name}.jar")).display().to_string())
        .collect();
    let mut java = Command::new("java");
    java.args(["-cp", &paths.join(":")]);
    script(&world, java.arg(at("WithMina.java")));
}
