//! What is expected of each script.

/// What is expected of a script.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// It passes.
    Pass,
    /// It runs to its end; exactly the checks with these words fail, for this reason.
    FailAt(&'static [&'static str], &'static str),
}

use Expected::{FailAt, Pass};

/// Script and expectation.
///
/// Not here, since they say nothing about a server: agent-getpeereid, agent-pkcs11, agent-ptrace, agent-subprocess,
/// agent-timeout (ssh-agent alone), broken-pipe, percent, portnum, sshcfgparse, cfginclude (ssh alone), keygen-*, krl,
/// sshsig (ssh-keygen alone), ssh-com*, ssh2putty, valgrind-unit, unittests (programs of their own).
///
/// Not here for other reasons: cipher-speed (a measurement: `bench/`), conch-ciphers (Twisted is not installed),
/// hostbased (no such way in), hostkey-agent (host keys are files), reexec (deletes the running sshd, which here is the shim; `tests/e2e/processes.rs`
/// replaces the program), sshfp-connect (needs a domain with DNSSEC), servcfginclude (all of it is Match by host,
/// which has no equal; Include is in the tests of `import-sshd-config`).
pub const EXPECTED: &[(&str, Expected)] = &[
    // The long ones first.
    (
        "rekey",
        FailAt(
            &["rekeylimit size: expected 4294967296 bytes got 1073741824"],
            "new keys are made after 1 GiB at the latest",
        ),
    ),
    (
        "agent-restrict",
        FailAt(
            &[
                "hide private keys: multihop ssh failed",
                "hide private keys: multihop w/ user ssh failed",
                "hide private keys: multihop cycle restricted allow failed",
                "hide private keys: unexpected ssh output",
            ],
            "the library has no publickey-hostbound: keys that an agent lets go over several hosts (ssh-add -h) stop at the second",
        ),
    ),
    ("multiplex", Pass),
    (
        "cert-userkey",
        FailAt(
            &[
                "rsa correct authorized_principals: ssh cert connect failed",
                "rsa authorized_principals command=true: ssh cert connect failed",
                "rsa correct principals key option: ssh cert connect failed",
                "rsa authorized_keys connect: ssh cert connect failed",
                "rsa authorized_keys empty KRL: ssh cert connect failed",
                "rsa TrustedUserCAKeys connect: ssh cert connect failed",
                "rsa TrustedUserCAKeys empty KRL: ssh cert connect failed",
                "empty principals auth authorized_keys expect success rsa: empty principals failed unexpectedly",
                "empty principals auth authorized_keys expect success ed25519: empty principals failed unexpectedly",
            ],
            "a client that may sign with ssh-rsa alone signs with SHA-1; a certificate without names is nobody's, in authorized_keys too",
        ),
    ),
    ("integrity", Pass),
    ("cert-hostkey", Pass),
    ("key-options", Pass),
    // Newer than Debian 12's suite.
    ("penalty", Pass),
    ("penalty-expire", Pass),
    ("connection-timeout", Pass),
    ("forwarding", Pass),
    ("channel-timeout", Pass),
    ("try-ciphers", Pass),
    // The transport and sessions.
    ("connect", Pass),
    ("connect-privsep", Pass),
    (
        "proxy-connect",
        FailAt(
            &[
                "plain username comp=no: bad SSH_CONNECTION comp=no: 0.0.0.0 65535 0.0.0.0 65535",
                "plain username comp=yes: bad SSH_CONNECTION comp=yes: 0.0.0.0 65535 0.0.0.0 65535",
                "username with style: ssh proxyconnect failed",
            ],
            "a client without an address is 0.0.0.0 here and UNKNOWN there; a user name is never cut at a colon",
        ),
    ),
    ("connect-uri", Pass),
    ("proto-version", Pass),
    ("proto-mismatch", Pass),
    ("exit-status", Pass),
    ("exit-status-signal", Pass),
    ("envpass", Pass),
    ("transfer", Pass),
    ("banner", Pass),
    ("stderr-data", Pass),
    ("stderr-after-eof", Pass),
    ("yes-head", Pass),
    ("login-timeout", Pass),
    ("reconfigure", Pass),
    ("dynamic-forward", Pass),
    ("forward-control", Pass),
    ("localcommand", Pass),
    ("kextype", Pass),
    (
        "keytype",
        FailAt(
            &["userkey rsa-2048, hostkey rsa-2048"],
            "an RSA host key of 2048 bits is refused",
        ),
    ),
    ("dhgex", Pass),
    ("host-expand", Pass),
    ("knownhosts", Pass),
    ("knownhosts-command", Pass),
    ("keyscan", Pass),
    ("agent", Pass),
    ("brokenkeys", Pass),
    (
        "hostkey-rotate",
        FailAt(
            &[
                "learn additional hostkeys: ",
                "learn additional hostkeys, type=ssh-ed25519: learn hostkeys",
                "learn additional hostkeys, type=ecdsa-sha2-nistp256: ",
                "learn additional hostkeys, type=ecdsa-sha2-nistp384: ",
                "learn additional hostkeys, type=ecdsa-sha2-nistp521: ",
                "learn additional hostkeys, type=ssh-rsa: ",
                "learn changed non-primary hostkey type=ssh-rsa: ",
                "learn new primary hostkey: learn hostkeys",
                "learn new primary hostkey: new key missing",
                "rotate primary hostkey: ",
            ],
            "keys are not announced (hostkeys-00): the client learns the one that it sees",
        ),
    ),
    ("multipubkey", Pass),
    ("putty-transfer", Pass),
    ("putty-ciphers", Pass),
    ("putty-kex", Pass),
    // Policy.
    ("forcecommand", Pass),
    ("cert-file", Pass),
    ("principals-command", Pass),
    ("keys-command", Pass),
    ("limit-keytype", Pass),
    ("allow-deny-users", Pass),
    ("authinfo", Pass),
    ("cfgparse", Pass),
    (
        "cfgmatch",
        FailAt(
            &[
                "match rdomain expected /u1 got",
                "match rdomain expected /h1 got",
                "match rdomain expected /1.2.3.4 got",
                "match rdomain expected /5.6.7.8 got",
                "match rdomain expected /rdom1 got",
            ],
            "there is one banner for all, shown before anybody is named",
        ),
    ),
    ("cfgmatchlisten", Pass),
    ("addrmatch", Pass),
    ("sftp-chroot", Pass),
    // Files.
    ("sftp", Pass),
    ("sftp-cmds", Pass),
    ("sftp-badcmds", Pass),
    ("sftp-batch", Pass),
    ("sftp-glob", Pass),
    ("sftp-perm", Pass),
    ("sftp-uri", Pass),
    ("scp", Pass),
    ("scp3", Pass),
    ("scp-uri", Pass),
];
