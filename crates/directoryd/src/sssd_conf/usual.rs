//! Files as the usual tools write them, and as the usual instructions have them.

use super::import;
use crate::config::{Config, Ldap, Schema};

/// The configuration, its `[ldap]` and the notes, of a file that works here but for what the notes say.
fn read(text: &str) -> (Config, Ldap, String) {
    let imported = import(text).unwrap();
    let config: Config =
        service::config::parse(std::path::Path::new("x"), imported.toml.as_bytes()).unwrap();
    let ldap = config.ldap.clone().unwrap();
    (config, ldap, imported.notes.join("\n"))
}

fn says(notes: &str, parts: &[&str]) {
    for part in parts {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}

#[test]
fn a_machine_that_realmd_joined() {
    let (config, ldap, notes) = read(
        "\n[sssd]\ndomains = ad.example.com\nconfig_file_version = 2\nservices = nss, pam\n\n\
         [domain/ad.example.com]\ndefault_shell = /bin/bash\nkrb5_store_password_if_offline = True\n\
         cache_credentials = True\nkrb5_realm = AD.EXAMPLE.COM\nrealmd_tags = manages-system joined-with-adcli\n\
         id_provider = ad\nfallback_homedir = /home/%u@%d\nad_domain = ad.example.com\n\
         use_fully_qualified_names = True\nldap_id_mapping = True\naccess_provider = ad\n",
    );
    assert_eq!(ldap.schema, Schema::Ad);
    assert_eq!(ldap.uris, ["ldap+srv://ad.example.com"]);
    assert_eq!(ldap.base, "dc=ad,dc=example,dc=com");
    assert_eq!(ldap.home_template, "/home/%u@ad.example.com");
    assert!(ldap.id_mapping && config.offline_passwords.is_some());
    assert!(config.access.allow_groups.is_empty());
    says(
        &notes,
        &[
            "use_fully_qualified_names",
            "ad_gpo_access_control",
            "no bind account",
        ],
    );
}

/// `realm permit -g`.
#[test]
fn groups_that_realm_permits() {
    let (config, _, notes) = read(
        "[sssd]\ndomains = ad.example.com\n[domain/ad.example.com]\nid_provider = ad\nad_domain = ad.example.com\n\
         access_provider = simple\nsimple_allow_groups = HPC Users@AD.EXAMPLE.COM, staff@other.example.com\n\
         simple_deny_groups = Interns@ad.example.com\n",
    );
    assert_eq!(config.access.allow_groups, ["hpc_users", "staff"]);
    assert_eq!(config.access.deny_groups, ["interns"]);
    says(&notes, &["'staff@other.example.com' is of another domain"]);
    assert!(
        !notes.contains("Interns") && !notes.contains("gpo"),
        "{notes}"
    );
}

/// As AWS ParallelCluster writes it for a Managed Microsoft AD.
#[test]
fn a_login_node_of_parallelcluster() {
    let (config, ldap, notes) = read(
        "[domain/default]\nid_provider = ldap\ncache_credentials = True\nldap_default_authtok = topsecret\n\
         ldap_default_bind_dn = CN=ReadOnlyUser,OU=Users,OU=CORP,DC=corp,DC=example,DC=com\n\
         ldap_id_mapping = True\nldap_referrals = False\nldap_schema = AD\n\
         ldap_search_base = dc=corp,dc=example,dc=com\nldap_tls_cacert = /opt/ca.crt\nldap_tls_reqcert = hard\n\
         ldap_uri = ldaps://corp.example.com\nldap_user_object_class = user\nuse_fully_qualified_names = False\n\
         access_provider = ldap\nldap_access_filter = memberOf=cn=hpc,dc=corp,dc=example,dc=com\n\n\
         [domain/local]\nid_provider = files\nenumerate = True\n\n[sssd]\nconfig_file_version = 2\n\
         services = nss, pam, ssh\ndomains = default, local\nfull_name_format = %1$s\n\n\
         [nss]\nfilter_users = nobody,root\nfilter_groups = root\noverride_homedir = /shared/%u\n\
         default_shell = /bin/zsh\n[pam]\noffline_credentials_expiration = 7\n",
    );
    assert_eq!(ldap.schema, Schema::Ad);
    assert_eq!(ldap.uris, ["ldaps://corp.example.com"]);
    assert_eq!((ldap.user_filter, ldap.group_filter), (None, None));
    // What stands in [nss] counts for the domain.
    assert_eq!(ldap.home_template, "/shared/%u");
    assert_eq!(ldap.default_shell, "/bin/zsh");
    assert_eq!(config.access.allow_groups, ["to-be-named"]);
    says(
        &notes,
        &[
            "ldap_access_filter",
            "full_name_format",
            "filter_users = nobody,root",
            "ldap_default_authtok",
        ],
    );
    assert!(
        !notes.contains("topsecret") && !notes.contains("filter_groups"),
        "{notes}"
    );
}

/// As ipa-client-install writes it.
#[test]
fn a_machine_of_ipa() {
    let (config, ldap, notes) = read(
        "[domain/ipa.example.com]\n\ncache_credentials = True\nkrb5_store_password_if_offline = True\n\
         ipa_domain = ipa.example.com\nid_provider = ipa\nauth_provider = ipa\naccess_provider = ipa\n\
         ipa_hostname = client.ipa.example.com\nchpass_provider = ipa\nipa_server = _srv_, ipa1.ipa.example.com\n\
         ldap_tls_cacert = /etc/ipa/ca.crt\n[sssd]\nservices = nss, sudo, pam, ssh\n\ndomains = ipa.example.com\n\
         [nss]\nhomedir_substring = /home\n\n[pam]\n\n[sudo]\n\n[session_recording]\n",
    );
    // Below the suffix everybody is a second time.
    assert_eq!(ldap.base, "cn=accounts,dc=ipa,dc=example,dc=com");
    assert_eq!(
        ldap.uris,
        ["ldap+srv://ipa.example.com", "ldaps://ipa1.ipa.example.com"]
    );
    assert_eq!(config.access.allow_groups, ["to-be-named"]);
    says(
        &notes,
        &[
            "HBAC",
            "access_provider = ipa",
            "[sudo]",
            "[session_recording]",
            "homedir_substring",
        ],
    );
}

#[test]
fn users_of_ldap_with_passwords_of_kerberos() {
    let (config, ldap, notes) = read(
        "[sssd]\ndomains = LDAP\n[domain/LDAP]\nid_provider = ldap\nauth_provider = krb5\nldap_schema = rfc2307\n\
         ldap_uri = ldap://l1.example.edu, ldap://l2.example.edu\nldap_search_base = dc=example,dc=edu\n\
         ldap_user_search_base = ou=people,dc=example,dc=edu??(|(affiliation=staff)(affiliation=student))\n\
         ldap_tls_reqcert = never\nkrb5_server = kdc.example.edu\nkrb5_kpasswd = kdc.example.edu\nmax_id = 60000\n\
         access_provider = simple\nsimple_allow_users = alice, bob\nsimple_deny_groups = Banned, no entry\n\
         case_sensitive = false\nldap_pwd_policy = shadow\n",
    );
    // The filter says who is a user: without it there would be more of them.
    let filter = "(&(objectClass=posixAccount)(|(affiliation=staff)(affiliation=student)))";
    assert_eq!(ldap.user_filter.as_deref(), Some(filter));
    assert_eq!(ldap.user_base(), "ou=people,dc=example,dc=edu");
    assert_eq!(config.access.allow_users, ["alice", "bob"]);
    // A name in other letters would deny nobody.
    assert_eq!(config.access.deny_groups, ["Banned", "no entry"]);
    says(
        &notes,
        &[
            "auth_provider = krb5",
            "max_id",
            "reqcert",
            "case_sensitive",
            "ldap_pwd_policy",
            "'no entry'",
        ],
    );
    assert!(!notes.contains("krb5_"), "{notes}");
}

#[test]
fn a_certificate_in_place_of_a_password() {
    let (_, ldap, notes) = read(
        "\u{feff}[sssd]\r\ndomains = x\r\n[domain/x]\r\nid_provider = ldap\r\nldap_uri = ldaps://h\r\n\
         ldap_search_base = dc=x?sub?uid=*\r\nldap_sasl_mech = EXTERNAL\r\nldap_tls_cert = /c\r\nldap_tls_key = /k\r\n",
    );
    assert_eq!((ldap.bind_dn, ldap.bind_password_file), (None, None));
    assert!(ldap.client_certificate.is_some() && ldap.client_key.is_some());
    assert_eq!(
        ldap.user_filter.as_deref(),
        Some("(&(objectClass=posixAccount)(uid=*))")
    );
    says(&notes, &["EXTERNAL"]);
}
