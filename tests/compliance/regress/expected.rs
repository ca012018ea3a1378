//! What is expected of each script.

/// What is expected of a script.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// It passes.
    Pass,
    /// It fails, for this reason.
    Fail(&'static str),
    /// It gets to where it says this, and fails there, for this reason.
    FailAt(&'static str, &'static str),
}

use Expected::{Fail, FailAt, Pass};

/// Script and expectation. Not run: what tests keys, agents, parsers and known hosts of OpenSSH itself.
pub const EXPECTED: &[(&str, Expected)] = &[
    // The transport and sessions.
    ("connect", Pass),
    (
        "proxy-connect",
        Fail(
            "a source that is no address is 0.0.0.0 here, UNKNOWN there; and a user name is never cut at a colon",
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
    (
        "rekey",
        FailAt(
            "FATAL: rekeylimit size: expected 16 bytes got",
            "after all that it does with new keys it reads sshd -T, which has another form here",
        ),
    ),
    ("stderr-data", Pass),
    ("stderr-after-eof", Pass),
    ("broken-pipe", Pass),
    (
        "try-ciphers",
        Fail("SHA-1, MD5 and umac MACs and CBC ciphers are not there"),
    ),
    ("yes-head", Pass),
    ("login-timeout", Pass),
    ("forwarding", Pass),
    ("dynamic-forward", Pass),
    ("forward-control", Pass),
    (
        "integrity",
        Fail("the MACs that it damages (SHA-1, MD5, umac) are not there"),
    ),
    ("localcommand", Pass),
    ("multiplex", Pass),
    (
        "kextype",
        Fail("sntrup761 and finite-field groups are not there"),
    ),
    ("keytype", Fail("DSA keys are not there")),
    (
        "dhgex",
        Fail("finite-field groups are not there (docs/gateway.md, T6)"),
    ),
    ("host-expand", Pass),
    ("knownhosts", Pass),
    ("knownhosts-command", Pass),
    ("keyscan", Fail("DSA host keys are not there")),
    (
        "agent",
        FailAt(
            "connect via agent using ssh-dss key",
            "DSA keys are not there",
        ),
    ),
    (
        "agent-restrict",
        Fail(
            "the library has no publickey-hostbound, so keys restricted by ssh-add -h do not log in",
        ),
    ),
    (
        "hostkey-rotate",
        Fail("DSA host keys are not there, and a key is announced by restart"),
    ),
    (
        "hostkey-agent",
        Fail("host keys are files, not in an agent"),
    ),
    (
        "cert-hostkey",
        Fail("DSA host keys, and revocation on the client's side with them"),
    ),
    (
        "multipubkey",
        Fail("files of authorities that are not root's are not believed"),
    ),
    ("channel-timeout", Pass),
    ("connection-timeout", Pass),
    ("putty-transfer", Pass),
    ("putty-ciphers", Pass),
    ("putty-kex", Pass),
    // Policy.
    ("key-options", Pass),
    ("forcecommand", Pass),
    (
        "cert-userkey",
        Fail("files of authorities that are not root's are not believed"),
    ),
    ("cert-file", Pass),
    (
        "principals-command",
        Fail("files of authorities that are not root's are not believed"),
    ),
    ("keys-command", Pass),
    ("krl", Pass),
    (
        "limit-keytype",
        Fail("files of authorities that are not root's are not believed"),
    ),
    ("allow-deny-users", Pass),
    (
        "authinfo",
        Fail("import-sshd-config does not carry ExposeAuthInfo over to expose-auth-info"),
    ),
    ("cfgmatch", Fail("Match rdomain has no equal")),
    (
        "cfgmatchlisten",
        Fail("PermitListen of one address in a Match block: not looked into"),
    ),
    (
        "addrmatch",
        Fail("networks with bits below the mask are taken, and sshd refuses them"),
    ),
    (
        "sftp-chroot",
        Fail("ChrootDirectory is a confined root of sftp-server here, set up otherwise"),
    ),
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
