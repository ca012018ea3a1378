//! What is wrong with the directory, for people: the error, and behind it what they can do about it.

use std::io;

use ldap_link::LinkError;
use service::exit::chain;

use super::LdapError;

/// The error with all its causes, and what to do if that is known.
pub fn told(error: &LdapError) -> String {
    let text = chain(error);
    match advice(error, &text) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

/// What a result code means (RFC 4511 appendix A), for servers that say no more than its number.
pub fn meaning(code: u32) -> &'static str {
    match code {
        1 => "operations error",
        3 => "time limit exceeded",
        4 => "size limit exceeded",
        8 => "stronger authentication required",
        10 => "referral",
        11 => "administrative limit exceeded",
        12 => "unavailable critical extension",
        13 => "confidentiality required",
        32 => "no such object",
        34 => "invalid dn",
        48 => "inappropriate authentication",
        49 => "invalid credentials",
        50 => "insufficient access rights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwilling to perform",
        _ => "refused",
    }
}

fn advice(error: &LdapError, text: &str) -> Option<&'static str> {
    Some(match error {
        LdapError::Password(_) => {
            "directoryd's own user must be able to read it, and others must not"
        }
        LdapError::Unfound => {
            "is the domain behind ldap+srv:// the right one, and does a resolver of /etc/resolv.conf answer?"
        }
        LdapError::Refused { code, .. } => match code {
            48 | 49 => {
                "check bind-dn and bind-password-file, or what the client certificate stands for"
            }
            32 => "check base, user-base and group-base: one is not there, or may not be seen",
            50 => "give the account of bind-dn the right to read there",
            3 | 4 | 11 => "raise the server's limits for the account of bind-dn, or set on-demand",
            8 | 13 => "the server wants TLS: start-tls, or ldaps://",
            10 => "name the server that has these entries in uris",
            _ => return None,
        },
        LdapError::TooMany(..) => "raise most-entries, or set on-demand",
        LdapError::Vanished(_) => {
            "has the account of bind-dn lost a right? If all are gone for good, stop directoryd and remove its replica"
        }
        LdapError::Link(LinkError::StartTls(why)) if why.contains("code") => {
            "the server has no StartTLS: set it up there, or use ldaps://"
        }
        LdapError::Link(LinkError::Tls { source, .. }) => tls(source, text)?,
        LdapError::Link(
            LinkError::Connect { .. } | LinkError::StartTls(_) | LinkError::Deadline(_),
        )
        | LdapError::Deadline(_) => "is the server up, and does a firewall let us through?",
        _ => return None,
    })
}

/// TLS has words for its reasons, and no numbers that reach us.
fn tls(source: &io::Error, text: &str) -> Option<&'static str> {
    Some(if text.contains("UnknownIssuer") {
        "ca-file must have the CA of the server's certificate"
    } else if text.contains("xpired") {
        "the server's certificate has to be renewed there; is the clock right?"
    } else if text.contains("NotValidYet") || text.contains("not valid yet") {
        "the server's certificate is of a later time; is the clock right?"
    } else if text.contains("NotValidForName") || text.contains("not valid for name") {
        "uris must have a name that is in the server's certificate"
    } else if source.kind() == io::ErrorKind::UnexpectedEof {
        "is that a port for ldaps? ldap:// with start-tls goes to the other one"
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_what_to_do() {
        let refused = |code| LdapError::Refused {
            action: "bind as 'cn=x'".into(),
            code,
            text: String::new(),
        };
        let check = |error: &LdapError, expected: &str| assert_eq!(told(error), expected);
        check(
            &refused(49),
            "bind as 'cn=x': invalid credentials (code 49); check bind-dn and bind-password-file, or what the \
             client certificate stands for",
        );
        check(&refused(80), "bind as 'cn=x': refused (code 80)");
        let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        let link = LinkError::Tls {
            uri: "ldaps://x".into(),
            source: eof,
        };
        check(
            &link.into(),
            "tls with 'ldaps://x': tls handshake eof; is that a port for ldaps? ldap:// with start-tls goes to \
             the other one",
        );
    }
}
