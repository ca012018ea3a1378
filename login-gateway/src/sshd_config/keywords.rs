//! Keywords that have no key of ours: those that need none, and those that somebody will miss.

use super::blocks::{Block, Line};
use super::notes::{Kind, Note, Notes};

/// Their effect is the same here, or they have none on who may do what.
const NEEDLESS: &[&str] = &[
    "addressfamily",
    "compression",
    "debug",
    "fingerprinthash",
    "gssapicleanupcredentials",
    "gssapistrictacceptorcheck",
    "hostbasedacceptedalgorithms",
    "hostbasedusesnamefrompacketonly",
    "hostkeyalgorithms",
    "ignorerhosts",
    "ignoreuserknownhosts",
    "ipqos",
    "kerberosorlocalpasswd",
    "kerberosticketcleanup",
    "keyregenerationinterval",
    "logverbose",
    "moduliFile",
    "modulifile",
    "permittunnel",
    "pidfile",
    "protocol",
    "rdomain",
    "rhostsrsaauthentication",
    "rsaauthentication",
    "securitykeyprovider",
    "serverkeybits",
    "sshdauthpath",
    "sshdsessionpath",
    "streamlocalbindunlink",
    "strictmodes",
    "syslogfacility",
    "tcpkeepalive",
    "usedns",
    "uselogin",
    "useprivilegeseparation",
    "x11displayoffset",
    "x11uselocalhost",
    "loglevel",
    "versionaddendum",
    "permitemptypasswords",
];

/// Missed, with what to do.
const MISSED: &[(&str, &str)] = &[
    (
        "hostkeyagent",
        "host keys are files: name them in host-keys",
    ),
    (
        "streamlocalbindmask",
        "forwarded sockets are for the user alone (mode 0600)",
    ),
    ("xauthlocation", "xauth is looked for in path"),
];

/// Methods that do not exist here; missed if they are switched on.
const METHODS: &[&str] = &[
    "gssapiauthentication",
    "gssapikeyexchange",
    "hostbasedauthentication",
    "kerberosauthentication",
];

/// Keywords that hold for the service and cannot stand in a block of ours.
pub const SERVICE: &[&str] = &[
    "banner",
    "ciphers",
    "clientalivecountmax",
    "clientaliveinterval",
    "hostcertificate",
    "hostkey",
    "kexalgorithms",
    "listenaddress",
    "logingracetime",
    "macs",
    "maxauthtries",
    "maxstartups",
    "pamservicename",
    "persourcemaxstartups",
    "persourcenetblocksize",
    "persourcepenalties",
    "persourcepenaltyexemptlist",
    "port",
    "rekeylimit",
    "usepam",
];

/// Notes about lines that no other part has taken; `known` are those that one has.
pub fn notes(block: &Block, known: &[&str], notes: &mut Vec<Note>) {
    for line in &block.lines {
        let keyword = line.keyword.as_str();
        let in_match = !block.matches.is_empty();
        if known.contains(&keyword) {
            continue;
        }
        if SERVICE.contains(&keyword) {
            if in_match {
                notes.note(
                    Kind::LeftOut,
                    line,
                    "holds for all connections here, so not in a block",
                );
            }
        } else if let Some((_, why)) = MISSED.iter().find(|(k, _)| *k == keyword) {
            if !line.first().eq_ignore_ascii_case("none")
                && !line.first().eq_ignore_ascii_case("no")
            {
                notes.note(Kind::LeftOut, line, *why);
            }
        } else if METHODS.contains(&keyword) {
            if line.yes() != Some(false) {
                notes.note(Kind::LeftOut, line, "this method is not there");
            }
        } else if keyword == "permitrootlogin" {
            root(line, notes);
        } else if NEEDLESS.contains(&keyword) {
            needless(line, notes);
        } else {
            notes.note(Kind::LeftOut, line, "no such keyword is known here");
        }
    }
}

fn root(line: &Line, notes: &mut Vec<Note>) {
    if line.yes() != Some(false) {
        notes.note(
            Kind::LeftOut,
            line,
            "root does not log in here; break-glass names one account for emergencies",
        );
    }
}

/// Those whose other value somebody would miss.
fn needless(line: &Line, notes: &mut Vec<Note>) {
    let yes = line.yes() == Some(true);
    let no = line.yes() == Some(false);
    let why = match line.keyword.as_str() {
        "strictmodes" if no => "files of keys that others may write are never believed",
        "permittunnel" if !no => "there are no tunnel devices here",
        "permitemptypasswords" if yes => "whether an empty password passes is PAM's decision",
        "x11uselocalhost" if no => "forwarded displays listen on loopback alone",
        "compression" if yes => "there is no compression here",
        "streamlocalbindunlink" if yes => "a socket that is in the way must be removed first",
        "loglevel" => "say --log-level or LOG_LEVEL",
        "versionaddendum" if line.first() != "none" => "the version text is fixed",
        "hostkeyalgorithms" => "the preset of crypto-policy says it",
        "hostbasedacceptedalgorithms" => return,
        _ => return,
    };
    let kind = if line.keyword == "loglevel" {
        Kind::Changed
    } else {
        Kind::LeftOut
    };
    notes.note(kind, line, why);
}
