//! From a login to its Slurm tokens: the record of the signer names the login as the gateway does.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use tests::{Host, SOON, programs, run};

use crate::host;

/// SlurmUser, without a name and without capabilities.
const SLURM: u32 = 20_401;
/// Asks for a token as Slurm's commands do, and prints it. Its payload is of this request alone: two tokens of one
/// second are the same otherwise.
const CLIENT: &str = "import os, socket, sys\n\
    s = socket.socket(socket.AF_UNIX)\n\
    s.connect(sys.argv[1])\n\
    s.sendall(bytes.fromhex('2a00000000180000fa01ffffffff00000008') + os.urandom(8))\n\
    print(s.makefile('rb').read()[4:-1].decode())\n";

/// A signer on the host; ended on drop.
struct Signer {
    child: Child,
    folder: PathBuf,
}

impl Signer {
    fn start(host: &Host) -> Self {
        let folder = host.folder().join("slurm");
        fs::create_dir_all(folder.join("run")).unwrap();
        let put = |name: &str, text: &str, mode| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            chown(&path, Some(SLURM), Some(SLURM)).unwrap();
        };
        put("slurm.key", "a key of the test that is long enough", 0o600);
        put(
            "slurm.conf",
            "ClusterName=lab\nAuthType=auth/slurm\n",
            0o644,
        );
        put("client.py", CLIENT, 0o644);
        let at = folder.display();
        let config = format!(
            "key-file = \"{at}/slurm.key\"\nconf = \"{at}/slurm.conf\"\nrun-dir = \"{at}/run\"\n\
             slurm-user = \"{SLURM}\"\n"
        );
        put("config", &config, 0o644);
        chown(folder.join("run"), Some(SLURM), Some(SLURM)).unwrap();
        // Where SlurmUser can reach it.
        let program = folder.join("sackd-shim");
        fs::copy(programs().join("sackd-shim"), &program).unwrap();
        let user = SLURM.to_string();
        let child = host
            .command("setpriv")
            .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
            .args(["--inh-caps", "-all", "--bounding-set", "-all"])
            .arg(&program)
            .arg("--config")
            .arg(folder.join("config"))
            .env("LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let signer = Self { child, folder };
        let end = Instant::now() + SOON;
        while !signer.folder.join("run/sack.socket").exists() {
            assert!(Instant::now() < end, "no signer: {}", signer.log());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        signer
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// The command that prints a token.
    fn ask(&self) -> String {
        let at = self.folder.display();
        format!("python3 {at}/client.py {at}/run/sack.socket")
    }

    /// The line of the record for this token.
    fn line(&self, token: &str) -> serde_json::Value {
        let (_, signature) = token.rsplit_once('.').unwrap();
        let digest: String = Sha256::digest(signature)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let end = Instant::now() + SOON;
        loop {
            if let Some(line) = self.log().lines().find(|line| line.contains(&digest)) {
                return serde_json::from_str(line).unwrap();
            }
            assert!(Instant::now() < end, "not on record\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_token_is_on_record_with_its_login() {
    let Some(host) = host("slurm::a_token_is_on_record_with_its_login") else {
        return;
    };
    let server = host.gateway("");
    let signer = Signer::start(host);
    let (ann, bob) = (host.user(), host.user());
    let ask = signer.ask();
    let mut seen = Vec::new();
    for (user, how, options) in [
        (&ann, ask.clone(), &[][..]),
        (&ann, ask.clone(), &["-tt"]),
        (&bob, format!("bash -c '{ask}; true'"), &[]),
        // A session of its own, and an environment that lies.
        (
            &bob,
            format!("setsid -w env SLURM_LOGIN_ID=00000000 {ask}"),
            &[],
        ),
        (&bob, format!("env -i /usr/bin/{ask}"), &[]),
    ] {
        let script = format!("echo $SLURM_LOGIN_ID; {how}");
        let said = run(server.ssh(user, options).arg(&script));
        let said = said.ok().replace('\r', "");
        let (login, token) = said.split_once('\n').unwrap();
        let line = signer.line(token.trim());
        assert_eq!(line["login"], login, "{how}: {line}\n{}", server.log());
        assert_eq!(line["user"], user.name.as_str(), "{line}");
        assert_eq!(line["exe"], "python3", "{line}");
        // The same name in the gateway's record of that login.
        server.logged(&format!("login={login}"));
        seen.push(login.to_owned());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5, "each login has a name of its own");
    // Somebody who is logged in nowhere has none.
    let token = run(host.command("bash").args(["-c", &ask]));
    assert_eq!(signer.line(token.ok().trim())["login"], "-");
}
