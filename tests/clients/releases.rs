//! OpenSSH of other releases of Debian, each in a folder made by `tests/lab/clients.sh`.

use crate::world::{World, host, lab, possible};

fn release(name: &str) {
    let root = lab().join("clients").join(name);
    if !possible(
        &format!("OpenSSH of {name}"),
        &[&root.join("usr/bin/ssh").display().to_string()],
    ) {
        return;
    }
    let world = World::new();
    // The folder of keys, at the same path inside, in a mount namespace of its own.
    let done = world.sh(&format!(
        "export ROOT={root} FOLDER={folder}
         unshare -m bash -c 'mkdir -p $ROOT$FOLDER && mount --bind $FOLDER $ROOT$FOLDER && mount --bind /dev $ROOT/dev &&
             mount --bind /dev/pts $ROOT/dev/pts && mount -t proc none $ROOT/proc &&
             chroot $ROOT sh -c \"$1\"' - \"
             set -e
             cd $HERE; OPTIONS=\\\"$(echo $SSH | sed 's/^ssh //; s/-o KexAlgorithms=[^ ]*//')\\\"
             ssh \\$OPTIONS 127.0.0.1 'echo out; echo err >&2' 2>/dev/null
             code=0; ssh \\$OPTIONS 127.0.0.1 'exit 42' || code=\\$?; echo \\$code
             scp -q \\$OPTIONS file 127.0.0.1:there
             printf 'get there back\\\\n' | sftp -q -b - \\$OPTIONS 127.0.0.1 >/dev/null
             ssh -tt \\$OPTIONS 127.0.0.1 tty 2>/dev/null | tr -d '\\\\r'
             ssh \\$OPTIONS -v 127.0.0.1 true 2>&1 | grep -c 'kex: algorithm: mlkem768x25519-sha256' || true
             \"",
        root = root.display(),
        folder = host().folder().display(),
    ));
    let lines: Vec<&str> = done.ok().lines().collect();
    assert_eq!(lines[..2], ["out", "42"], "{done:#?}");
    assert!(lines[2].starts_with("/dev/pts/"), "{done:#?}");
    // Both releases know the hybrid exchange, and so do we: one line of it in the client's debug output.
    assert_eq!(lines[3..], ["1"], "{done:#?}");
    world.carried("there", "back");
}

#[test]
fn trixie() {
    release("trixie");
}

#[test]
fn forky() {
    release("forky");
}
