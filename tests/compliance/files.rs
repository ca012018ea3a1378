//! Files: sftp, scp of both protocols, rsync, git.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tests::{Server, User};

use crate::both::{case, host};

/// A folder of this process's side.
fn here(server: &Server, user: &User) -> PathBuf {
    let path = host()
        .folder()
        .join(format!("{}-{:?}", user.name, server.whose));
    fs::create_dir_all(path.join("tree/deep/er")).unwrap();
    fs::write(path.join("tree/one"), "one\n").unwrap();
    fs::write(path.join("tree/deep/er/two"), vec![7; 3_000_000]).unwrap();
    fs::write(path.join("tree/a name with spaces and \u{e9}"), "").unwrap();
    path
}

#[track_caller]
fn equal(left: impl AsRef<std::ffi::OsStr>, right: impl AsRef<std::ffi::OsStr>) {
    tests::run(Command::new("diff").arg("-r").arg(left).arg(right)).ok();
}

#[track_caller]
fn sftp(server: &Server, user: &User, batch: &str) -> tests::Done {
    tests::run_with(
        &mut server.client("sftp", user, &["-b", "-", "127.0.0.1"]),
        batch.as_bytes(),
        tests::SOON,
    )
}

case!(sftp_there_and_back, |server| {
    let ann = host().user();
    let here = here(server, &ann);
    let text = format!(
        "put -rp {0}/tree\nget -rp tree {0}/back\nls -l tree\nrename tree/one tree/uno\nrm tree/uno\nmkdir new\nrmdir new\n\
         symlink tree/deep link\nchmod 600 tree/deep/er/two\ndf\npwd\n",
        here.display()
    );
    sftp(server, &ann, &text).ok();
    equal(here.join("tree"), here.join("back"));
    equal(here.join("tree/deep"), ann.files.join("tree/deep"));
    assert!(!ann.files.join("tree/one").exists());
});

case!(sftp_of_a_large_file, |server| {
    let ann = host().user();
    let here = here(server, &ann);
    tests::run(
        Command::new("sh")
            .arg("-c")
            .arg(format!("openssl rand 50000000 >{}/big", here.display())),
    )
    .ok();
    sftp(
        server,
        &ann,
        &format!("put {0}/big\nget big {0}/big.back\n", here.display()),
    )
    .ok();
    equal(here.join("big"), here.join("big.back"));
});

case!(sftp_resumes, |server| {
    let ann = host().user();
    let here = here(server, &ann);
    let two = here.join("tree/deep/er/two");
    let bytes = fs::read(&two).unwrap();
    fs::write(here.join("part"), &bytes[..1_000_001]).unwrap();
    ann.put("part", &bytes[..999_999]);
    ann.put("two", &bytes);
    sftp(
        server,
        &ann,
        &format!(
            "reget two {0}/part\nreput {1} part\n",
            here.display(),
            two.display()
        ),
    )
    .ok();
    equal(here.join("part"), &two);
    equal(ann.files.join("part"), &two);
});

case!(sftp_refusals, |server| {
    let ann = host().user();
    for batch in [
        "get nothing",
        "ls nothing",
        "put nothing",
        "rmdir /",
        "get /etc/shadow /dev/null",
        "mkdir /etc/x",
    ] {
        assert_ne!(sftp(server, &ann, batch).code, 0, "{batch}");
    }
});

case!(scp_of_both_protocols, |server| {
    let ann = host().user();
    let here = here(server, &ann);
    for protocol in ["-O", "-s"] {
        let (tree, there) = (here.join("tree"), format!("127.0.0.1:copy{protocol}"));
        let back = here.join(format!("scp{protocol}"));
        tests::run(&mut server.client(
            "scp",
            &ann,
            &[protocol, "-rpq", tree.to_str().unwrap(), &there],
        ))
        .ok();
        tests::run(&mut server.client(
            "scp",
            &ann,
            &[protocol, "-rpq", &there, back.to_str().unwrap()],
        ))
        .ok();
        equal(&tree, &back);
        let done = tests::run(&mut server.client(
            "scp",
            &ann,
            &[protocol, "-q", "127.0.0.1:nothing", "/dev/null"],
        ));
        assert_eq!(done.code, 1, "{done:#?}");
    }
});

case!(scp_with_a_shell_that_talks, |server| {
    let ann = host().user();
    ann.put(".bash_profile", "echo chatter\n");
    let here = here(server, &ann);
    let one = here.join("tree/one");
    tests::run(&mut server.client("scp", &ann, &["-q", one.to_str().unwrap(), "127.0.0.1:"])).ok();
    assert_eq!(ann.read("one"), "one\n");
});

case!(rsync_both_ways, |server| {
    let ann = host().user();
    let here = here(server, &ann);
    let tree = format!("{}/tree/", here.display());
    let rsync = |arguments: &[&str]| {
        let mut rsync = Command::new("rsync");
        rsync
            .args(["-a", "--delete", "-e", &server.ssh_line(&ann)])
            .args(arguments);
        tests::run(&mut rsync).ok().to_owned()
    };
    // Many small files, so that both directions are busy at once.
    for n in 0..1500 {
        fs::write(here.join(format!("tree/file{n}")), vec![b'x'; n * 20]).unwrap();
    }
    rsync(&[&tree, "127.0.0.1:there/"]);
    rsync(&["127.0.0.1:there/", &format!("{}/rsynced/", here.display())]);
    equal(here.join("tree"), here.join("rsynced"));
    // Checksums of all blocks cross the line both ways.
    fs::write(here.join("tree/deep/er/two"), vec![8; 3_000_001]).unwrap();
    rsync(&["-c", "--no-whole-file", &tree, "127.0.0.1:there/"]);
    equal(here.join("tree"), ann.files.join("there"));
});

case!(git_clone_and_push, |server| {
    let ann = host().user();
    let here = here(server, &ann);
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args([
            "-c",
            "user.name=Ann",
            "-c",
            "user.email=ann@example.org",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .env("GIT_SSH_COMMAND", server.ssh_line(&ann))
        .env("HOME", &here)
        .current_dir(&here);
        tests::run(&mut git).ok().to_owned()
    };
    server
        .says(&ann, "git init -q --bare repo.git -b main")
        .ok();
    git(&["init", "-q", "tree"]);
    git(&["-C", "tree", "add", "."]);
    git(&["-C", "tree", "commit", "-q", "-m", "all"]);
    git(&[
        "-C",
        "tree",
        "push",
        "-q",
        &format!("127.0.0.1:{}/repo.git", ann.home.display()),
        "HEAD:main",
    ]);
    git(&[
        "clone",
        "-q",
        &format!("127.0.0.1:{}/repo.git", ann.home.display()),
        "clone",
    ]);
    fs::remove_dir_all(here.join("tree/.git")).unwrap();
    fs::remove_dir_all(here.join("clone/.git")).unwrap();
    equal(here.join("tree"), here.join("clone"));
});

case!(tar_through_a_pipe, |server| {
    let ann = host().user();
    let here = here(server, &ann);
    let script = format!(
        "set -e -o pipefail; cd {0}; tar c tree | {1} 127.0.0.1 tar x; mkdir tarred; {1} 127.0.0.1 tar c tree | tar x -C tarred",
        here.display(),
        server.ssh_line(&ann)
    );
    tests::run(Command::new("bash").args(["-c", &script])).ok();
    equal(here.join("tree"), here.join("tarred/tree"));
});
