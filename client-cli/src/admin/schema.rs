//! What the server can store and do, read from its root DSE and its schema (RFC 4512, 4 and 5.1),
//! so that a lacking class is named before anything is written.

use crate::directory::Directory;
use crate::error::AdminError;
use crate::settings::{Schema, Settings};

/// Increment, RFC 4525.
const INCREMENT: &str = "1.3.6.1.1.14";
/// Post-read, RFC 4527.
const POST_READ: &str = "1.3.6.1.1.13.2";

/// What the server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offers {
    /// Numbers can be incremented and read in one step.
    pub increment: bool,
    /// The class a user is built on: `inetOrgPerson`, or `account` where that is missing.
    pub person: &'static str,
    /// The class a group is built on besides `posixGroup`; none where that is structural itself.
    pub group: Option<&'static str>,
    /// `ldapPublicKey` is there.
    pub ssh_keys: bool,
}

impl Offers {
    /// Whether a group of this server must have a member: `groupOfNames` (RFC 4519, 3.5).
    pub fn needs_member(&self) -> bool {
        self.group == Some("groupOfNames")
    }

    /// Asks the server.
    ///
    /// # Errors
    /// [`AdminError::Schema`] naming what the configured schema needs and the server lacks.
    pub async fn read(directory: &mut Directory, settings: &Settings) -> Result<Self, AdminError> {
        let unreadable = || AdminError::Schema("a schema that 'bind-dn' can read".into());
        let about = ["supportedFeatures", "supportedControl", "subschemaSubentry"];
        let root = directory.read("", &about).await?.ok_or_else(unreadable)?;
        let subschema = root.text("subschemaSubentry").unwrap_or("cn=Subschema");
        let schema = directory
            .read(subschema, &["objectClasses"])
            .await?
            .ok_or_else(unreadable)?;
        let classes: Vec<Class> = schema
            .texts("objectClasses")
            .filter_map(Class::parse)
            .collect();
        if classes.is_empty() {
            return Err(unreadable());
        }
        let increment = root.texts("supportedFeatures").any(|oid| oid == INCREMENT)
            && root.texts("supportedControl").any(|oid| oid == POST_READ);
        Self::judge(&classes, settings.schema, increment)
    }

    fn judge(classes: &[Class], schema: Schema, increment: bool) -> Result<Self, AdminError> {
        let find = |name: &str| classes.iter().find(|class| class.has(name));
        let lacks = |what: &str| AdminError::Schema(what.into());
        find("posixAccount").ok_or_else(|| lacks("object class 'posixAccount'"))?;
        let posix_group = find("posixGroup").ok_or_else(|| lacks("object class 'posixGroup'"))?;
        let first =
            |names: &[&'static str]| names.iter().copied().find(|name| find(name).is_some());
        let group = match schema {
            Schema::Rfc2307bis if !posix_group.auxiliary => {
                return Err(lacks(
                    "an auxiliary 'posixGroup' (rfc2307bis); it has that of rfc2307",
                ));
            }
            Schema::Rfc2307 if posix_group.auxiliary => {
                return Err(lacks(
                    "a structural 'posixGroup' (rfc2307); it has that of rfc2307bis",
                ));
            }
            Schema::Rfc2307 => None,
            Schema::Rfc2307bis => Some(
                first(&["groupOfMembers", "groupOfNames"])
                    .ok_or_else(|| lacks("object class 'groupOfMembers' or 'groupOfNames'"))?,
            ),
        };
        Ok(Self {
            increment,
            person: first(&["inetOrgPerson", "account"])
                .ok_or_else(|| lacks("object class 'inetOrgPerson' or 'account'"))?,
            group,
            ssh_keys: find("ldapPublicKey").is_some(),
        })
    }

    /// Fails where keys cannot be stored.
    ///
    /// # Errors
    /// [`AdminError::Schema`].
    pub fn require_ssh_keys(&self) -> Result<(), AdminError> {
        match self.ssh_keys {
            true => Ok(()),
            false => Err(AdminError::Schema(
                "object class 'ldapPublicKey', where keys stand".into(),
            )),
        }
    }
}

/// As much of an ObjectClassDescription (RFC 4512, 4.1.1) as is needed here.
#[derive(Debug, PartialEq, Eq)]
struct Class {
    names: Vec<String>,
    auxiliary: bool,
}

impl Class {
    fn parse(text: &str) -> Option<Self> {
        let after = text.split_once(" NAME ")?.1.trim_start();
        let list = match after.strip_prefix('(') {
            Some(list) => list.split_once(')')?.0,
            None => {
                let end = after.get(1..)?.find('\'')? + 2;
                &after[..end]
            }
        };
        let names = list
            .split('\'')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        // The kind stands outside all quotes: a description may hold any word.
        let auxiliary = text
            .split('\'')
            .step_by(2)
            .any(|outside| outside.split_whitespace().any(|word| word == "AUXILIARY"));
        Some(Self { names, auxiliary })
    }

    fn has(&self, name: &str) -> bool {
        self.names
            .iter()
            .any(|have| have.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_descriptions() {
        let check = |text: &str, names: &[&str], auxiliary: bool| {
            let class = Class::parse(text).unwrap();
            assert_eq!(
                (class.names, class.auxiliary),
                (names.iter().map(|n| n.to_string()).collect(), auxiliary)
            );
        };
        check(
            "( 1.2 NAME 'posixGroup' SUP top STRUCTURAL MUST ( cn $ gidNumber ) )",
            &["posixGroup"],
            false,
        );
        check(
            "( 1.2 NAME 'a' DESC 'not AUXILIARY at all' SUP top )",
            &["a"],
            false,
        );
        check(
            "( 1.2 NAME ( 'a' 'b' ) SUP top AUXILIARY MAY c )",
            &["a", "b"],
            true,
        );
        assert_eq!(Class::parse("( 1.2 NAME 'a"), None);
        assert_eq!(Class::parse("( 1.2 NAME "), None);
        assert_eq!(Class::parse(""), None);
    }

    #[test]
    fn what_the_configured_schema_needs() {
        let aux = "( 1 NAME 'posixGroup' AUXILIARY )";
        let own = "( 1 NAME 'posixGroup' STRUCTURAL )";
        let account = "( 1 NAME 'posixAccount' AUXILIARY )";
        let person = "( 1 NAME 'inetOrgPerson' STRUCTURAL )";
        let check = |texts: &[&str], schema, expected: &str| {
            let classes: Vec<_> = texts.iter().filter_map(|text| Class::parse(text)).collect();
            let said = match Offers::judge(&classes, schema, true) {
                Ok(offers) => format!("{:?} {} {}", offers.group, offers.ssh_keys, offers.person),
                Err(error) => error.to_string(),
            };
            assert!(said.contains(expected), "{texts:?}: {said}");
        };
        let (bis, old) = (Schema::Rfc2307bis, Schema::Rfc2307);
        check(&[], bis, "lacks object class 'posixAccount'");
        check(&[account], bis, "lacks object class 'posixGroup'");
        check(&[account, own, person], bis, "auxiliary");
        check(&[account, aux, person], old, "structural");
        check(
            &[account, aux, person],
            bis,
            "'groupOfMembers' or 'groupOfNames'",
        );
        check(&[account, own], old, "'inetOrgPerson' or 'account'");
        check(&[account, own, person], old, "None false inetOrgPerson");
        let names = "( 1 NAME 'groupOfNames' STRUCTURAL )";
        let members = "( 1 NAME 'groupOfMembers' STRUCTURAL )";
        let keys = "( 1 NAME 'ldapPublicKey' AUXILIARY )";
        check(
            &[account, aux, names, person],
            bis,
            "Some(\"groupOfNames\") false",
        );
        check(
            &[account, aux, names, members, keys, person],
            bis,
            "Some(\"groupOfMembers\") true",
        );
    }
}
