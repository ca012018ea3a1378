//! What OpenSSH's client does not do: change its name halfway, answer more than was asked, send a host's
//! certificate as a user's. The client is russh's, on the other side of russh's server.

use std::sync::Arc;

use russh::MethodKind;
use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse as Reply};
use russh::keys::{Certificate, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};

use crate::host::{ALICE, Host, PAM, possible, run};

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

fn in_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let hangs = std::time::Duration::from_secs(120);
    let test = async { tokio::time::timeout(hangs, test).await };
    runtime.unwrap().block_on(test).unwrap();
}

async fn connect(host: &Host) -> Handle<Trusting> {
    let config = Arc::new(client::Config::default());
    client::connect(config, ("127.0.0.1", host.port), Trusting)
        .await
        .unwrap()
}

fn key(host: &Host, user: &str, name: &str) -> Arc<PrivateKey> {
    let path = host.path(&format!("home/{user}/.ssh/{name}"));
    Arc::new(russh::keys::load_secret_key(path, None).unwrap())
}

async fn by_key(client: &mut Handle<Trusting>, user: &str, key: Arc<PrivateKey>) -> AuthResult {
    let key = PrivateKeyWithHashAlg::new(key, None);
    client.authenticate_publickey(user, key).await.unwrap()
}

fn refused(result: &AuthResult) -> (Vec<MethodKind>, bool) {
    match result {
        AuthResult::Success => panic!("accepted"),
        AuthResult::Failure {
            remaining_methods,
            partial_success,
        } => (remaining_methods.to_vec(), *partial_success),
    }
}

#[test]
fn a_factor_of_one_name_is_none_of_another() {
    if !possible("other_clients::a_factor_of_one_name", &[]) {
        return;
    }
    let more = "authentication-methods = [\"publickey,password\"]";
    let host = Host::start(more, PAM, |_| {});
    in_runtime(async {
        let mut client = connect(&host).await;
        // Carol's key is good; alice's password on top of it is not enough for anybody
        // (GHSA-hpv4-5h6f-wqr3).
        let first = by_key(&mut client, "carol", key(&host, "carol", "id")).await;
        assert_eq!(refused(&first), (vec![MethodKind::Password], true));
        let other = client.authenticate_password("alice", ALICE).await.unwrap();
        assert_eq!(refused(&other), (vec![MethodKind::PublicKey], false));
        // And what carol had passed is forgotten when she comes back.
        let back = client.authenticate_password("carol", ALICE).await.unwrap();
        assert_eq!(refused(&back), (vec![MethodKind::PublicKey], false));
        let whole = by_key(&mut client, "alice", key(&host, "alice", "id")).await;
        assert_eq!(refused(&whole), (vec![MethodKind::Password], true));
        // The same factor again is not the next one.
        let again = by_key(&mut client, "alice", key(&host, "alice", "id2")).await;
        assert_eq!(refused(&again), (vec![MethodKind::Password], false));
        let done = client.authenticate_password("alice", ALICE).await.unwrap();
        assert!(done.success());
    });
}

#[test]
fn refusals_leave_the_methods_and_answers_are_counted() {
    if !possible("other_clients::refusals_leave_the_methods", &[]) {
        return;
    }
    let more = "authentication-methods = [\"password\", \"keyboard-interactive\"]";
    let host = Host::start(more, PAM, |_| {});
    let both = vec![MethodKind::Password, MethodKind::KeyboardInteractive];
    in_runtime(async {
        let mut client = connect(&host).await;
        // russh strikes a refused method off unless told otherwise (T10).
        for _ in 0..2 {
            let wrong = client
                .authenticate_password("alice", "wrong")
                .await
                .unwrap();
            assert_eq!(refused(&wrong), (both.clone(), false));
        }
        let empty = client.authenticate_password("alice", "").await.unwrap();
        assert_eq!(refused(&empty), (both.clone(), false));
        let done = client.authenticate_password("alice", ALICE).await.unwrap();
        assert!(done.success());

        let mut client = connect(&host).await;
        let start = client
            .authenticate_keyboard_interactive_start("alice", None)
            .await;
        let Reply::InfoRequest { prompts, .. } = start.unwrap() else {
            panic!("no prompt")
        };
        assert_eq!(prompts.len(), 1);
        let many = vec![ALICE.to_owned(), ALICE.to_owned()];
        let reply = client
            .authenticate_keyboard_interactive_respond(many)
            .await
            .unwrap();
        assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
    });
}

#[test]
fn a_hosts_certificate_is_no_users() {
    if !possible("other_clients::a_hosts_certificate", &[]) {
        return;
    }
    let more = "trusted-user-ca-keys = [\"FOLDER/etc/gateway/ca.pub\"]";
    let host = Host::start(more, PAM, |folder| {
        let ca = folder.join("etc/gateway/ca").display().to_string();
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &ca]);
    });
    let ca = host.path("etc/gateway/ca").display().to_string();
    let path = format!("{}/.ssh/id2", host.home("alice"));
    let public = format!("{path}.pub");
    host.give("alice", ".ssh/authorized_keys", "");
    in_runtime(async {
        let with = async |options: &[&str]| {
            let all = [
                &["-q", "-s", &ca, "-I", "x", "-n", "alice"][..],
                options,
                &[&public],
            ]
            .concat();
            run("ssh-keygen", &all);
            let text = std::fs::read_to_string(format!("{path}-cert.pub")).unwrap();
            let certificate = Certificate::from_openssh(&text).unwrap();
            let mut client = connect(&host).await;
            let key = key(&host, "alice", "id2");
            client
                .authenticate_openssh_cert("alice", key, certificate)
                .await
                .unwrap()
        };
        assert!(with(&[]).await.success());
        // russh looks at neither (T12).
        refused(&with(&["-h"]).await);
        host.logged("it is a host's certificate", 1);
        refused(&with(&["-V", "20200101:20200201"]).await);
    });
}
