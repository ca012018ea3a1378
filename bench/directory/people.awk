# Writes LDIF: users, each in so many of the project groups, and one group that holds everybody.
# Set: users, projects; perhaps each (8), and nobody=1 for no group of everybody.
BEGIN {
    if (!each) each = 8
    people = "ou=people,dc=example,dc=org"
    groups = "ou=groups,dc=example,dc=org"
    for (n = 0; n < users; n++) {
        printf "dn: uid=u%05d,%s\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\n", n, people
        printf "objectClass: ldapPublicKey\nuid: u%05d\ncn: User Number %d\nsn: Number %d\n", n, n, n
        # 65534 and 65535 are nobody's.
        printf "uidNumber: %d\ngidNumber: 1500\nhomeDirectory: /home/u%05d\n", n + (n < 50000 ? 10000 : 20000), n
        printf "loginShell: /bin/bash\n"
        printf "sshPublicKey: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB u%05d\n\n", n
        for (k = 0; k < each; k++) {
            p = (n * 7 + k * int(projects / each)) % projects
            members[p] = members[p] sprintf("member: uid=u%05d,%s\n", n, people)
        }
        if (!nobody) everybody = everybody sprintf("member: uid=u%05d,%s\n", n, people)
    }
    for (p = 0; p < projects; p++) {
        printf "dn: cn=p%05d,%s\nobjectClass: groupOfMembers\nobjectClass: posixGroup\n", p, groups
        printf "cn: p%05d\ngidNumber: %d\n%s\n", p, 30000 + p, members[p]
    }
    if (nobody) exit
    printf "dn: cn=everybody,%s\nobjectClass: groupOfMembers\nobjectClass: posixGroup\n", groups
    printf "cn: everybody\ngidNumber: 29999\n%s\n", everybody
}
