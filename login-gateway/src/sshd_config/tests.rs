//! Whole files: what a login may do afterwards, and what is said about the rest.

use std::collections::BTreeMap;
use std::io;

use gateway_wire::policy::{Forwarding, Who};
use gateway_wire::{Policy, Settings};

use super::{Files, ImportError, Imported, Kind, import};

#[derive(Default)]
struct Memory(BTreeMap<&'static str, &'static str>);

impl Files for Memory {
    fn matching(&self, pattern: &str) -> io::Result<Vec<(String, String)>> {
        let fits = |(path, text): (&&str, &&str)| {
            gateway_wire::policy::fits(pattern, path).then(|| ((*path).into(), (*text).into()))
        };
        Ok(self.0.iter().filter_map(fits).collect())
    }

    fn exists(&self, path: &str) -> bool {
        path.ends_with("_key")
    }
}

fn imported(text: &str) -> Imported {
    import("sshd_config", text, &Memory::default()).unwrap()
}

fn settings(text: &str) -> Settings {
    toml::from_str(&imported(text).toml).unwrap()
}

/// The policy of `user[:group,group][@address]`.
fn policy(settings: &Settings, who: &str) -> Policy {
    let (who, source) = who.split_once('@').unwrap_or((who, "192.0.2.1"));
    let (user, groups) = who.split_once(':').unwrap_or((who, ""));
    let groups: Vec<String> = groups.split(',').map(str::to_owned).collect();
    settings.policy(&Who {
        user,
        groups: &groups,
        source: source.parse().unwrap(),
        destination: None,
    })
}

/// Who may log in; `!` in front says who may not.
fn allowed(text: &str, people: &[&str]) {
    let settings = settings(text);
    for who in people {
        let (name, expected) = match who.strip_prefix('!') {
            Some(name) => (name, false),
            None => (*who, true),
        };
        assert_eq!(
            policy(&settings, name).allow_login,
            expected,
            "{who}\n{text}"
        );
    }
}

#[test]
fn who_may_log_in() {
    allowed("Port 22", &["alice", "bob"]);
    allowed("DenyUsers bob mal*", &["alice", "!bob", "!mallory"]);
    allowed(
        "AllowUsers alice\nAllowUsers bob",
        &["alice", "bob", "!carol"],
    );
    allowed(
        "AllowUsers *\nDenyGroups out",
        &["alice", "!bob:out", "carol:in"],
    );
    allowed("AllowGroups in", &["!alice", "bob:in", "!carol:out"]);
    allowed("AllowGroups in\nDenyUsers bob", &["alice:in", "!bob:in"]);
    // Both lists must let a user pass.
    let both = "AllowUsers alice bob\nAllowGroups in\nDenyGroups out";
    allowed(both, &["alice:in", "!alice", "!carol:in", "!bob:in,out"]);
    let hosts = "AllowUsers alice@10.0.0.0/8 bob svc@192.0.2.*,!192.0.2.7";
    allowed(
        hosts,
        &[
            "alice@10.1.1.1",
            "!alice@192.0.2.1",
            "bob",
            "svc@192.0.2.6",
            "!svc@192.0.2.7",
        ],
    );
    allowed("DenyUsers bob@10.0.0.0/8", &["bob", "!bob@10.9.9.9"]);
    // A host name cannot be asked for: refusals hold everywhere, permissions nowhere.
    allowed("DenyUsers bob@evil.example", &["!bob", "alice"]);
    allowed("AllowUsers bob@good.example alice", &["!bob", "alice"]);
    allowed("AllowUsers !bob alice", &["!bob", "alice"]);
}

#[test]
fn who_may_log_in_within_blocks() {
    let text = "AllowGroups staff\nMatch Address 10.0.0.0/8\n  AllowGroups staff guests\n  DenyUsers bob\n";
    allowed(
        text,
        &[
            "a:staff",
            "!a:guests",
            "a:guests@10.1.1.1",
            "!bob:staff@10.1.1.1",
            "bob:staff",
            "!a@10.1.1.1",
        ],
    );
    allowed(
        "Match User svc\n AllowUsers svc\nMatch all\n DenyUsers *",
        &["svc", "!alice"],
    );
    allowed(
        "Match Group jail\n ChrootDirectory /jail",
        &["alice", "!alice:jail"],
    );
    allowed(
        "Match Group gone\n RefuseConnection yes",
        &["alice", "!alice:gone"],
    );
    allowed("Match User *b\n AllowUsers a*", &["!ab", "!bb"]);
}

fn ways(policy: &Policy) -> Vec<String> {
    let ways = policy.authentication_methods.iter();
    ways.map(|way| String::from(way.clone())).collect()
}

#[test]
fn ways_in() {
    let check = |text: &str, expected: &[&str]| {
        let all = settings(&format!("UsePAM yes\n{text}"));
        assert_eq!(ways(&policy(&all, "a")), expected, "{text}");
    };
    check("", &["publickey", "password", "keyboard-interactive"]);
    check(
        "PasswordAuthentication no\nChallengeResponseAuthentication no",
        &["publickey"],
    );
    check(
        "AuthenticationMethods publickey,keyboard-interactive:pam password",
        &["publickey,keyboard-interactive", "password"],
    );
    check(
        "AuthenticationMethods any\nPubkeyAuthentication no",
        &["password", "keyboard-interactive"],
    );
    check("AuthenticationMethods hostbased publickey", &["publickey"]);
    let many = "publickey,".repeat(9) + "publickey";
    check(
        &format!("AuthenticationMethods {many} password"),
        &["password"],
    );
    let none = settings("AuthenticationMethods hostbased");
    assert!(!policy(&none, "a").allow_login);
    let none = settings("PubkeyAuthentication no\nAllowUsers a");
    assert!(!policy(&none, "a").allow_login);
    let some = settings(
        "PubkeyAuthentication no\nAllowUsers a b\nMatch User b,c\nPubkeyAuthentication yes",
    );
    assert_eq!(ways(&policy(&some, "a")), [""; 0]);
    assert_eq!(ways(&policy(&some, "b")), ["publickey"]);
    assert!(policy(&some, "b").allow_login && !policy(&some, "c").allow_login);
    // Without PAM there is nobody to ask for a password.
    let bare = settings("PasswordAuthentication yes");
    assert_eq!(ways(&policy(&bare, "a")), ["publickey"]);
    assert_eq!(bare.pam_service, None);
    let blocks = settings(
        "UsePAM yes\nMatch Group two\nAuthenticationMethods publickey,password\nMatch User k\nPasswordAuthentication no\n",
    );
    assert_eq!(ways(&policy(&blocks, "a:two")), ["publickey,password"]);
    assert_eq!(
        ways(&policy(&blocks, "k")),
        ["publickey", "keyboard-interactive"]
    );
}

#[test]
fn what_a_login_may_do() {
    let all = settings(
        "X11Forwarding yes\nX11Forwarding no\nGatewayPorts clientspecified\nPermitTTY yes\n\
         Match User bot\n PermitTTY no\n ForceCommand /bin/run \"$SSH_ORIGINAL_COMMAND\"\n DisableForwarding yes\n\
         Match Group dev\n AllowTcpForwarding local\n PermitOpen db:5432\n PermitListen none\n SetEnv A=1 B=\"x y\"\n",
    );
    let me = policy(&all, "alice");
    assert!(
        me.x11_forwarding && me.permit_tty && me.max_sessions == 10 && me.accept_env.is_empty()
    );
    assert_eq!(me.tcp_forwarding, Forwarding::Yes);
    let bot = policy(&all, "bot");
    assert!(!bot.permit_tty && !bot.agent_forwarding && !bot.x11_forwarding);
    assert_eq!(bot.force_command, "/bin/run \"$SSH_ORIGINAL_COMMAND\"");
    assert_eq!(
        (bot.tcp_forwarding, bot.stream_local_forwarding),
        (Forwarding::No, Forwarding::No)
    );
    let dev = policy(&all, "x:dev");
    assert_eq!(dev.tcp_forwarding, Forwarding::Local);
    assert_eq!(dev.permit_listen, ["none"]);
    // Disabling stands against whatever another block allows.
    let both = policy(
        &settings("Match User a\nAllowTcpForwarding yes\nMatch all\nDisableForwarding yes\n"),
        "a",
    );
    assert_eq!(both.tcp_forwarding, Forwarding::No);
    let back = settings(
        "DisableForwarding yes\nMatch User a\nDisableForwarding no\nMatch User b\nAllowTcpForwarding yes\n",
    );
    assert_eq!(policy(&back, "a").tcp_forwarding, Forwarding::Yes);
    assert_eq!(policy(&back, "b").tcp_forwarding, Forwarding::No);
    assert_eq!(dev.permit_open, ["db:5432"]);
    assert_eq!(dev.set_env["B"], "x y");
}

#[test]
fn keys_certificates_and_sftp() {
    let all = settings(
        "AuthorizedKeysFile %h/.k /etc/keys/%u\nTrustedUserCAKeys /ca.pub\nAuthorizedPrincipalsFile %h/.p\n\
         RevokedKeys /krl\nPubkeyAcceptedAlgorithms -ssh-dss,rsa-sha2-256\nRequiredRSASize 2048\n\
         Subsystem sftp internal-sftp -l INFO\nMatch User up\n ForceCommand internal-sftp -R\n ChrootDirectory /srv/%u\n",
    );
    assert_eq!(all.authorized_keys_files.len(), 2);
    assert!(
        all.principals.is_empty()
            && all.trusted_user_ca_keys.len() == 1
            && all.revoked_keys.len() == 1
    );
    // What is taken away is gone, and nothing else; the hash of an RSA key is part of the name.
    let left = all.public_key_algorithms.clone().unwrap();
    assert!(!left.contains(&"rsa-sha2-256".to_owned()) && left.len() == 15);
    assert_eq!(all.required_rsa_size, Some(2048));
    let signed =
        |text: &str| settings(&format!("CASignatureAlgorithms {text}")).ca_signature_algorithms;
    assert_eq!(
        signed("ssh-ed25519,ecdsa-*,ssh-rsa").unwrap(),
        ["ssh-ed25519", "ecdsa-*"]
    );
    let left = signed("-ssh-ed25519,rsa-*").unwrap();
    assert_eq!(left.len(), 5, "{left:?}");
    assert_eq!(signed("+ssh-rsa"), None);
    assert_eq!(signed("^ssh-ed25519"), None);
    let keys =
        |text: &str| settings(&format!("PubkeyAcceptedAlgorithms {text}")).public_key_algorithms;
    assert_eq!(keys("rsa-sha2-512,ssh-rsa").unwrap(), ["rsa-sha2-512"]);
    assert!(keys("ssh-rsa,ssh-dss").unwrap().is_empty());
    assert_eq!(keys("+ssh-rsa"), None);
    let block = settings(
        "PubkeyAcceptedAlgorithms ssh-ed25519\nMatch User a\n PubkeyAcceptedAlgorithms +ssh-rsa\n",
    );
    assert_eq!(policy(&block, "b").public_key_algorithms.unwrap().len(), 1);
    assert_eq!(policy(&block, "a").public_key_algorithms.unwrap().len(), 16);
    assert!(all.subsystems["sftp"].ends_with("sftp-server -l INFO"));
    let forced = policy(&all, "up").force_command;
    assert!(
        forced.ends_with("sftp-server --root \"/srv/$LOGNAME\" -R"),
        "{forced}"
    );
    let command = settings(
        "TrustedUserCAKeys /ca\nAuthorizedPrincipalsCommand /bin/p \"%i x\" %u\nAuthorizedPrincipalsCommandUser p\n\
         AuthorizedKeysCommand /bin/k\nAuthorizedKeysCommandUser k\nMatch User a\n AuthorizedKeysCommand none\n \
         AuthorizedPrincipalsCommand none\n",
    );
    assert_eq!(command.trusted_user_ca_keys.len(), 1);
    assert_eq!(
        command.authorized_principals_command,
        ["/bin/p", "%i x", "%u"]
    );
    assert_eq!(command.authorized_principals_command_user, "p");
    assert_eq!(command.authorized_keys_command, ["/bin/k"]);
    assert_eq!(command.authorized_keys_command_user, "k");
    assert!(command.principals.is_empty());
    let a = policy(&command, "a");
    assert!(a.authorized_keys_command.is_empty() && a.authorized_principals_command.is_empty());
    assert_eq!(a.principals, ["%u"]);
}

#[test]
fn where_the_client_connected_to() {
    let all = settings(
        "Match LocalAddress 10.0.0.0/8,!10.9.0.0/16 LocalPort 2222\n PermitTTY no\nMatch all\n ExposeAuthInfo yes\n",
    );
    let block = &all.r#match[0];
    assert!(block.destination.contains(&"10.128.0.0/9".parse().unwrap()));
    assert!(
        !block
            .destination
            .iter()
            .any(|net| net.contains(&"10.9.1.1".parse::<std::net::IpAddr>().unwrap()))
    );
    assert_eq!(
        (&block.destination_port[..], block.permit_tty),
        (&[2222][..], Some(false))
    );
    assert!(policy(&all, "a").expose_auth_info);
    let named = settings("Match Address 10.0.0.0/8,host.example.com\n PermitTTY no\n");
    assert!(!policy(&named, "a@10.1.1.1").permit_tty && policy(&named, "a").permit_tty);
    for bad in [
        "address 10.0.0.1/24",
        "LocalAddress=2000:aa:bb:01::/56",
        "User a Address 1.2.3.4,!10.0.1.0/8",
    ] {
        let error =
            import("f", &format!("Port 22\nMatch {bad}\n"), &Memory::default()).unwrap_err();
        assert!(error.to_string().contains("f:2: '"), "{error}");
        assert!(error.to_string().contains("the network is"), "{error}");
    }
}

#[test]
fn the_service() {
    let all = settings(
        "Port 2222\nPort 2223\nListenAddress [::1]:99\nListenAddress 127.0.0.1\nLoginGraceTime 1m30s\nClientAliveInterval 15\nMaxStartups 10:30:60\nRekeyLimit 512M 30m\nUsePAM yes\nPAMServiceName sshd\nHostKey /k1\nHostKey /k2\nBanner none",
    );
    let listen: Vec<String> = all.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["[::1]:99", "127.0.0.1:2222", "127.0.0.1:2223"]);
    assert_eq!(all.login_grace_time.as_secs(), 90);
    assert_eq!((all.max_startups, all.rekey_bytes), (60, 512 << 20));
    assert_eq!(all.pam_service.as_deref(), Some("sshd"));
    assert_eq!(all.host_keys.len(), 2);
    assert!(all.banner.is_none());
}

#[test]
fn the_door() {
    use gateway_wire::doors::{EarlyDrop, NetBlockSize, Overflow, Penalties};
    let all = settings(
        "MaxStartups 10:30:60\nPerSourceMaxStartups 5\nPerSourceNetBlockSize 24:56\nPerSourcePenalties authfail:7 noauth:1m min:2s max-sources4:9 overflow6:deny-all\nPerSourcePenaltyExemptList 10.0.0.0/8,2001:db8::1",
    );
    let (start, rate) = (10, 30);
    assert_eq!(
        (all.max_startups, all.early_drop),
        (60, EarlyDrop { start, rate })
    );
    assert_eq!(all.per_source_max_startups, Some(5));
    let size = NetBlockSize { ipv4: 24, ipv6: 56 };
    assert_eq!(all.per_source_net_block_size, size);
    let seconds = std::time::Duration::from_secs;
    let expected = Penalties {
        auth_fail: seconds(7),
        no_auth: seconds(60),
        min: seconds(2),
        max_sources4: 9,
        overflow6: Overflow::DenyAll,
        exempt: ["10.0.0.0/8", "2001:db8::1/128"]
            .map(|n| n.parse().unwrap())
            .into(),
        ..Penalties::default()
    };
    assert_eq!(all.penalties, expected);
    assert!(!settings("PerSourcePenalties no").penalties.enabled);
    let default = settings("PerSourcePenalties crash:1");
    assert!(default.penalties.enabled && default.penalties.exempt.is_empty());
    assert_eq!(default.per_source_net_block_size.ipv6, 128);
    assert_eq!(settings("").penalties, Penalties::default());
    assert_eq!(settings("MaxStartups 7").early_drop, EarlyDrop::default());
    assert_eq!(
        settings("PerSourceMaxStartups none").per_source_max_startups,
        Some(0)
    );
    assert!(
        settings("Match User x\nRefuseConnection yes").r#match[0].refuse_connection == Some(true)
    );
}

#[test]
fn presets() {
    use gateway_wire::crypto::CryptoPolicy::*;
    for (text, expected) in [
        ("", Modern),
        ("Ciphers aes256-gcm@openssh.com,aes128-ctr", Modern),
        ("Ciphers +aes128-cbc", Modern),
        (
            "KexAlgorithms ecdh-sha2-nistp256\nCiphers aes256-ctr\nMACs hmac-sha2-256",
            Fips140,
        ),
        ("MACs hmac-sha2-256,hmac-sha1", Compatible),
    ] {
        assert_eq!(settings(text).crypto_policy, expected, "{text}");
    }
}

#[test]
fn included_files() {
    let files = Memory(
        [
            (
                "a.conf",
                "PermitTTY no\nMatch User bob\nX11Forwarding yes\n",
            ),
            ("b.conf", "MaxSessions 3\nMatch Group staff\nMaxSessions 5"),
        ]
        .into(),
    );
    let text = "Include *.conf\nPermitTTY yes\nMatch User bob,carol\nInclude b.conf\n";
    let all = import("sshd_config", text, &files).unwrap();
    let settings: Settings = toml::from_str(&all.toml).unwrap();
    let me = policy(&settings, "alice");
    assert!(!me.permit_tty && me.max_sessions == 3 && !me.x11_forwarding);
    assert!(policy(&settings, "bob").x11_forwarding);
    assert_eq!(policy(&settings, "alice:staff").max_sessions, 5);
    let round = Memory([("r", "Include r")].into());
    assert!(matches!(
        import("r", "Include r", &round),
        Err(ImportError::Syntax { .. })
    ));
}

#[test]
fn what_is_said() {
    let all = imported(
        "GSSAPIAuthentication yes\n\nFrobnicate 1\nMatch Host x.example\n PermitTTY no\nMatch RDomain 22\n Banner /b\n",
    );
    let said: Vec<(Kind, usize, &str)> = all
        .notes
        .iter()
        .map(|n| (n.kind, n.line, n.keyword.as_str()))
        .collect();
    for expected in [
        (Kind::LeftOut, 1, "GSSAPIAuthentication"),
        (Kind::LeftOut, 3, "Frobnicate"),
        (Kind::LeftOut, 4, "Match"),
        (Kind::LeftOut, 6, "Match"),
    ] {
        assert!(said.contains(&expected), "{expected:?} {said:?}");
    }
    assert!(
        imported("Port 22\nRequiredRSASize 3072\nHostKey /k\n")
            .notes
            .is_empty()
    );
    for bad in ["Port", "Banner 'x", "Match"] {
        assert!(
            matches!(
                import("f", bad, &Memory::default()),
                Err(ImportError::Syntax { line: 1, .. })
            ),
            "{bad}"
        );
    }
}

#[test]
fn dull_text_is_bounded() {
    for text in [
        "Include x\n".repeat(30_000),
        "#".repeat(2 << 20),
        "Match all\n".repeat(25_000),
    ] {
        let _ = import("f", &text, &Memory::default());
    }
    let holes = (0..300)
        .map(|n| format!("!2001:db8:{n:x}::{n:x}"))
        .collect::<Vec<_>>()
        .join(",");
    let _ = imported(&format!("Match Address *,{holes}\nPermitTTY no\n"));
}
