//! Random sshd_config files: what `sshd -T -C` says about a login is what the imported policy says.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use gateway_wire::policy::{Forwarding, GatewayPorts, Who};
use gateway_wire::{Policy, Settings};
use login_gateway::sshd_config::{Files, import};

const SSHD: &str = "/usr/sbin/sshd";
/// Keywords and values that both can say.
const KEYWORDS: &[(&str, &[&str])] = &[
    ("PermitTTY", &["yes", "no"]),
    ("X11Forwarding", &["yes", "no"]),
    (
        "AllowTcpForwarding",
        &["yes", "no", "local", "remote", "all"],
    ),
    ("AllowStreamLocalForwarding", &["yes", "no", "local"]),
    ("AllowAgentForwarding", &["yes", "no"]),
    ("ForceCommand", &["/bin/true", "none", "\"echo 'a b'\""]),
    ("MaxSessions", &["1", "7"]),
    ("GatewayPorts", &["yes", "no", "clientspecified"]),
    ("PermitUserRC", &["yes", "no"]),
    ("PermitOpen", &["any", "h:1 h:2"]),
    ("DisableForwarding", &["yes"]),
];
const CRITERIA: &[&str] = &[
    "User alice",
    "User a*,!alice",
    "User=bob",
    "Address 10.0.0.0/8",
    "Address 10.0.0.0/8,!10.1.0.0/16",
    "user bob address 192.0.2.*",
    "All",
    "user *,!bob",
];
const LOGINS: &[(&str, &str)] = &[
    ("alice", "10.1.2.3"),
    ("bob", "192.0.2.9"),
    ("ann", "10.9.9.9"),
    ("bob", "203.0.113.1"),
];
const FILES: usize = 40;

/// Reads what a file includes, by its full path.
struct Disk;

impl Files for Disk {
    fn matching(&self, path: &str) -> io::Result<Vec<(String, String)>> {
        Ok(vec![(path.to_owned(), fs::read_to_string(path)?)])
    }

    fn exists(&self, _path: &str) -> bool {
        false
    }
}

/// The same numbers in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn lines(&mut self) -> String {
        let many = self.below(5);
        let line = |_| {
            let (keyword, values) = self.one(KEYWORDS);
            format!("{keyword} {}\n", self.one(values))
        };
        (0..many).map(line).collect()
    }

    fn blocks(&mut self) -> String {
        let many = self.below(4);
        let block = |_| format!("Match {}\n{}", self.one(CRITERIA), self.lines());
        (0..many).map(block).collect()
    }
}

#[test]
fn policies_are_those_of_sshd() {
    if !support::possible("policies_are_those_of_sshd") {
        return;
    }
    if !Path::new(SSHD).exists() || !Path::new("/run/sshd").exists() {
        println!("skipped: policies_are_those_of_sshd needs openssh-server and /run/sshd");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    support::run(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-f", &at("key")],
    );
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    for _ in 0..FILES {
        let included = numbers.lines() + &numbers.blocks();
        fs::write(at("included"), &included).unwrap();
        let include = format!("Include {}\n", at("included"));
        let text = format!("HostKey {}\n", at("key"))
            + &numbers.lines()
            + numbers.one(&["", &include])
            + &numbers.lines()
            + &numbers.blocks()
            + numbers.one(&["", "", &include]);
        fs::write(at("config"), &text).unwrap();
        let imported = import(&at("config"), &text, &Disk).unwrap();
        if imported
            .notes
            .iter()
            .any(|n| n.text.contains("cannot be said together"))
        {
            continue;
        }
        let settings: Settings = toml::from_str(&imported.toml).unwrap();
        for (user, address) in LOGINS {
            let theirs = sshd(&at("config"), user, address);
            let ours = settings.policy(&Who {
                user,
                groups: &[],
                source: address.parse().unwrap(),
                destination: None,
            });
            assert_eq!(
                said_by_us(&ours),
                said_by_them(&theirs),
                "{user}@{address}\n{text}\n{included}\n{}",
                imported.toml
            );
        }
    }
}

fn sshd(config: &str, user: &str, address: &str) -> BTreeMap<String, String> {
    let connection = format!("user={user},host=h,addr={address}");
    let output = Command::new(SSHD)
        .args(["-T", "-f", config, "-C", &connection])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn said_by_them(sshd: &BTreeMap<String, String>) -> Vec<String> {
    let off = sshd["disableforwarding"] == "yes";
    let forwarding = |key: &str| {
        if off {
            "no".to_owned()
        } else {
            sshd[key].clone()
        }
    };
    vec![
        sshd["permittty"].clone(),
        sshd["permituserrc"].clone(),
        forwarding("x11forwarding"),
        forwarding("allowagentforwarding"),
        forwarding("allowtcpforwarding"),
        forwarding("allowstreamlocalforwarding"),
        sshd.get("forcecommand")
            .filter(|c| *c != "none")
            .cloned()
            .unwrap_or_default(),
        sshd["maxsessions"].clone(),
        sshd["gatewayports"].clone(),
        sshd["permitopen"].replace("any", "*:*"),
    ]
}

fn said_by_us(policy: &Policy) -> Vec<String> {
    let switch = |on: bool| if on { "yes" } else { "no" }.to_owned();
    let forwarding = |value: Forwarding| match value {
        Forwarding::Yes => "yes".to_owned(),
        Forwarding::No => "no".to_owned(),
        Forwarding::Local => "local".to_owned(),
        Forwarding::Remote => "remote".to_owned(),
    };
    vec![
        switch(policy.permit_tty),
        switch(policy.permit_user_rc),
        switch(policy.x11_forwarding),
        switch(policy.agent_forwarding),
        forwarding(policy.tcp_forwarding),
        forwarding(policy.stream_local_forwarding),
        policy.force_command.clone(),
        policy.max_sessions.to_string(),
        match policy.gateway_ports {
            GatewayPorts::No => "no".to_owned(),
            GatewayPorts::Yes => "yes".to_owned(),
            GatewayPorts::ClientSpecified => "clientspecified".to_owned(),
        },
        policy.permit_open.join(" "),
    ]
}
