//! Programs: dropbear's, PuTTY's, curl, sshfs, rclone, lftp, rsync, Ansible, mosh, ssh-audit.

use std::process::Command;

use tests::Terminal;

use crate::world::{World, possible};

#[test]
fn dropbear() {
    if !possible("dropbear's dbclient", &["dbclient", "dropbearconvert"]) {
        return;
    }
    let world = World::new();
    // dbclient knows OpenSSH's keys in its own format alone.
    let done = world.sh("dropbearconvert openssh dropbear $KEY key 2>/dev/null
         C=\"dbclient -y -y -i key -p $PORT $USER_NAME@127.0.0.1\"
         $C 'echo out; echo err >&2' 2>/dev/null
         code=0; $C 'exit 42' 2>/dev/null || code=$?; echo $code
         $C 'cat >there' <$FILE ; $C 'cat there' >back
         script -qec \"$C -t tty\" /dev/null 2>/dev/null | tr -d '\\r'");
    let lines: Vec<&str> = done.ok().lines().collect();
    assert_eq!(lines[..2], ["out", "42"], "{done:#?}");
    // What it says of the host key is on the terminal as well.
    assert!(done.out.contains("/dev/pts/"), "{done:#?}");
    world.carried("there", "back");
}

/// PuTTY's key, and its answer to an unknown host key.
const PUTTY: &str = "puttygen $KEY -O private -o key.ppk --new-passphrase /dev/null 2>/dev/null ||
         puttygen $KEY -O private -o key.ppk
         print=$(ssh-keygen -lf $KNOWN_HOSTS | grep ED25519 | cut -d' ' -f2)
         P=\"-batch -hostkey $print -i key.ppk -P $PORT -l $USER_NAME\"; ";

#[test]
fn plink() {
    if !possible("PuTTY's plink", &["plink", "puttygen"]) {
        return;
    }
    let world = World::new();
    let done = world.sh(&format!(
        "{PUTTY}
         plink $P 127.0.0.1 'echo out'
         code=0; plink $P 127.0.0.1 'exit 42' || code=$?; echo $code
         plink $P 127.0.0.1 'cat >there' <$FILE; plink $P 127.0.0.1 'cat there' >back
         plink $P -t 127.0.0.1 tty | tr -d '\\r'
         plink -batch -hostkey $print -pw \"$PASSWORD\" -P $PORT -l $USER_NAME 127.0.0.1 'echo by password'"
    ));
    let lines: Vec<&str> = done.ok().lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines[..2], ["out", "42"], "{done:#?}");
    assert!(
        lines[2].starts_with("/dev/pts/") && lines[3] == "by password",
        "{done:#?}"
    );
    world.carried("there", "back");
}

#[test]
fn psftp_and_pscp() {
    if !possible("PuTTY's psftp and pscp", &["psftp", "pscp", "puttygen"]) {
        return;
    }
    let world = World::new();
    world
        .sh(&format!(
            "{PUTTY}
             printf 'put %s there\\nget there back\\nls\\nquit\\n' $FILE >batch
             psftp $P -b batch 127.0.0.1 >/dev/null"
        ))
        .ok();
    world.carried("there", "back");
    world.sh(&format!("{PUTTY} pscp $P -q $FILE 127.0.0.1:there2; pscp $P -q 127.0.0.1:there2 back2; pscp -scp $P -q 127.0.0.1:there2 back3")).ok();
    world.carried("there2", "back2");
    world.carried("there2", "back3");
}

/// With libssh2 before 1.11, which knows no cipher of the preset "modern".
#[test]
fn curl() {
    if !possible("curl with sftp", &["curl"]) {
        return;
    }
    if !tests::run(Command::new("curl").arg("--version"))
        .out
        .contains("sftp")
    {
        println!("skipped: curl is built without sftp here");
        return;
    }
    let world = World::compatible();
    let done = world.sh(
        "C=\"curl -sS --insecure --key $KEY --pubkey $KEY.pub -u $USER_NAME:\"
         $C -T $FILE sftp://127.0.0.1:$PORT/~/there
         $C -o back sftp://127.0.0.1:$PORT/~/there
         $C -r 1000-1999 sftp://127.0.0.1:$PORT/~/there | wc -c
         $C sftp://127.0.0.1:$PORT/~/ | grep -c there",
    );
    assert_eq!(done.ok(), "1000\n1");
    world.carried("there", "back");
}

#[test]
fn sshfs() {
    if !possible("sshfs", &["sshfs", "fusermount3", "/dev/fuse"]) {
        return;
    }
    let world = World::new();
    let done = world.sh(
        "mkdir mnt; sshfs -o ssh_command=\"$SSH\",max_conns=1 127.0.0.1: mnt
         trap 'fusermount3 -u mnt' EXIT
         cp $FILE mnt/there; cp mnt/there back; mkdir mnt/d; mv mnt/there mnt/d/one; cp mnt/d/one mnt/there
         for n in $(seq 50); do echo $n >mnt/d/$n; done; ls mnt/d | wc -l; truncate -s 10 mnt/d/one; stat -c %s mnt/d/one
         cat mnt/d/* | wc -l; ln -s x mnt/link; readlink mnt/link; df mnt >/dev/null; rm -r mnt/d",
    );
    if done.err.contains("fuse: mount failed") || done.err.contains("Operation not permitted") {
        println!("skipped: sshfs may not mount here: {}", done.err.trim());
        return;
    }
    assert_eq!(
        done.ok().lines().collect::<Vec<_>>()[..2],
        ["51", "10"],
        "{done:#?}"
    );
    world.carried("there", "back");
}

#[test]
fn rclone() {
    if !possible("rclone", &["rclone"]) {
        return;
    }
    let world = World::new();
    let done = world.sh(
        "printf '[us]\\ntype = sftp\\nhost = 127.0.0.1\\nport = %s\\nuser = %s\\nkey_file = %s\\n' $PORT $USER_NAME $KEY >conf
         mkdir tree; for n in $(seq 200); do echo $n >tree/$n; done
         R='rclone --config conf -q'
         $R copyto $FILE us:there; $R copyto us:there back
         $R sync tree us:tree; $R check tree us:tree; $R ls us:tree | wc -l
         $R sync us:tree tree2; diff -r tree tree2",
    );
    assert_eq!(done.ok(), "200", "{done:#?}");
    world.carried("there", "back");
}

#[test]
fn lftp() {
    if !possible("lftp", &["lftp"]) {
        return;
    }
    let world = World::new();
    world
        .sh("mkdir tree; for n in $(seq 50); do echo $n >tree/$n; done
             lftp -c \"set sftp:connect-program '$SSH -a -x'; set net:timeout 20; set net:max-retries 1
             open sftp://127.0.0.1; put $FILE -o there; get there -o back; mirror -R tree tree; mirror tree tree2; ls\" >/dev/null
             diff -r tree tree2")
        .ok();
    world.carried("there", "back");
}

#[test]
fn rsync() {
    if !possible("rsync", &["rsync"]) {
        return;
    }
    let world = World::new();
    world
        .sh("rsync -a -e \"$SSH\" $FILE 127.0.0.1:there; rsync -az -e \"$SSH\" 127.0.0.1:there back")
        .ok();
    world.carried("there", "back");
}

#[test]
fn ansible() {
    if !possible("Ansible", &["ansible"]) {
        return;
    }
    let world = World::new();
    let done = world.sh(
        "printf 'us ansible_host=127.0.0.1 ansible_port=%s ansible_user=%s ansible_ssh_private_key_file=%s ansible_python_interpreter=/usr/bin/python3\\n' $PORT $USER_NAME $KEY >hosts
         export ANSIBLE_HOST_KEY_CHECKING=False ANSIBLE_LOCAL_TEMP=$HERE/tmp ANSIBLE_NOCOLOR=1 ANSIBLE_SSH_CONTROL_PATH_DIR=/tmp/$USER_NAME LC_ALL=C.UTF-8
         ansible -i hosts us -m ping
         ansible -i hosts us -m copy -a \"src=$FILE dest=there\"
         ansible -i hosts us -m fetch -a 'src=there dest=back flat=yes'
         ansible -i hosts us -m shell -a 'exit 42' || echo failed as it must
         ANSIBLE_PIPELINING=1 ansible -i hosts us -m command -a 'id -un'",
    );
    let text = done.ok();
    assert!(
        text.contains("pong") && text.contains("rc=42") && text.contains("failed as it must"),
        "{done:#?}"
    );
    world.carried("there", "back");
}

#[test]
fn mosh() {
    if !possible("mosh's ssh phase", &["mosh-server"]) {
        return;
    }
    let world = World::new();
    let done =
        world.sh("$SSH -tt 127.0.0.1 'LC_ALL=C.UTF-8 mosh-server new -c 256 -s -l LANG=C.UTF-8'");
    assert!(done.ok().contains("MOSH CONNECT "), "{done:#?}");
    // It lives on without us, as it must, and ends here.
    world
        .sh(&format!("pkill -u {} mosh-server", world.user.uid))
        .ok();
}

#[test]
fn ssh_audit() {
    if !possible("ssh-audit", &["ssh-audit"]) {
        return;
    }
    let world = World::default_settings();
    let done = world.sh("ssh-audit -p $PORT --level=fail 127.0.0.1");
    assert!(!done.out.contains("[fail]"), "{}", done.out);
}

#[test]
fn tmux_in_a_terminal() {
    if !possible("tmux", &["tmux"]) {
        return;
    }
    let world = World::new();
    let mut terminal = Terminal::start(
        world
            .server
            .ssh(&world.user, &["-tt"])
            .arg("LC_ALL=C.UTF-8 tmux -f /dev/null"),
    );
    terminal.expect("0:bash");
    terminal.resize(40, 120);
    terminal.send("until [ \"$(stty size)\" = '39 120' ]; do sleep 0.1; done; echo got' 'it\r");
    terminal.expect("got it");
    terminal.send("exit\r");
    terminal.expect("exited");
    assert_eq!(terminal.wait(), Some(0));
}
