//! A directory whose attributes have names of their own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod support;

use std::time::Duration;

use directory_client::Lookup;
use support::{Lab, Settings, has_peers, wait};

const PEOPLE: &str = "dn: cn=Grace,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: ldapPublicKey
cn: Grace
sn: grace
uid: not-this-one
employeeNumber: 3001
departmentNumber: 3100
displayName: Grace H.
physicalDeliveryOfficeName: /shared/grace
title: /bin/zsh
sshPublicKey: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB

dn: cn=compilers,ou=groups,dc=example,dc=org
objectClass: groupOfUniqueNames
cn: compilers
o: cobol
businessCategory: 3100
uniqueMember: cn=Grace,ou=people,dc=example,dc=org

dn: cn=navy,ou=groups,dc=example,dc=org
objectClass: groupOfUniqueNames
cn: navy
o: navy
businessCategory: 3200
uniqueMember: cn=compilers,ou=groups,dc=example,dc=org
";

const NAMES: &str = "user-filter = \"(&(objectClass=inetOrgPerson)(employeeNumber=*))\"
group-filter = \"(&(objectClass=groupOfUniqueNames)(o=*))\"
[ldap.attributes]
user-name = \"sn\"
uid = \"employeeNumber\"
gid = \"departmentNumber\"
full-name = \"displayName\"
home = \"physicalDeliveryOfficeName\"
shell = \"title\"
ssh-key = \"sshPublicKey\"
group-name = \"o\"
group-gid = \"businessCategory\"
member = \"uniqueMember\"
";

#[test]
fn users_and_groups_by_other_attributes() {
    if !has_peers("users_and_groups_by_other_attributes") {
        return;
    }
    let lab = Lab::running(Settings {
        extra: PEOPLE,
        more_ldap: NAMES,
        ..Settings::default()
    });
    assert_eq!(
        lab.getent("passwd", "grace"),
        "grace:*:3001:3100:Grace H.:/shared/grace:/bin/zsh"
    );
    assert_eq!(lab.getent("group", "cobol"), "cobol:*:3100:grace");
    assert_eq!(lab.getent("group", "navy"), "navy:*:3200:grace");
    assert_eq!(lab.groups("grace"), [3100, 3200]);
    // Others are no users: the filter leaves them out.
    assert_eq!(lab.getent("passwd", "bob"), "");
    assert_eq!(lab.getent("passwd", "not-this-one"), "");
    // The look-up of one user goes by the same names.
    lab.modify(
        "dn: cn=Grace,ou=people,dc=example,dc=org\nchangetype: modify\nreplace: title\ntitle: /bin/ksh\n",
    );
    wait("the new shell", || {
        let found = lab
            .client()
            .account("grace", Duration::from_secs(2))
            .unwrap();
        let Lookup::Found(grace) = found else {
            panic!("grace is not found");
        };
        assert_eq!(grace.ssh_keys.len(), 1);
        (grace.fresh && grace.shell == "/bin/ksh").then_some(())
    });
}
