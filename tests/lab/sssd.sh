#!/bin/bash
# One domain of a real Samba, first through the real sssd and then through directoryd: by getent and id (numbers of
# users and groups, primary groups, groups of groups, names by number), and by PAM's account step (who is disabled or
# expired). Three times: ids from SIDs, the same in slices so small that the RIDs go beyond one, and ids from the
# entries. Prints `ok` or `not ok` for each line of an answer.
#
#   tests/lab/sssd.sh [FOLDER OF THE PROGRAMS]      root; fetches Debian's sssd, and changes nothing of the machine
set -uo pipefail
. "$(dirname "$0")/environment.sh"
set +e
programs=$(realpath "${1:-$REPO/target/debug}")
peers=$REPO/bench/directory/peers.sh work=$(mktemp -d) samba='' daemon='' sssd='' passed=0 failed=0
chmod 0755 "$work"

# Whether a process runs: one that ended and that nobody has waited for does not.
runs() { [ -e "/proc/$1/stat" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }
until_so() { local n=$1; shift; for _ in $(seq $((n * 20))); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done; return 1; }
gone() { ! runs "$1"; }
# stop PID...: ends them, and waits until they have.
stop() {
    local pid
    for pid in "$@"; do kill "$pid" 2>/dev/null; done
    for pid in "$@"; do until_so 30 gone "$pid" || kill -KILL "$pid" 2>/dev/null; done
}
ends() {
    # shellcheck disable=SC2086
    stop $sssd $daemon $samba
    rm -rf "$work"
}
trap ends EXIT
for program in samba samba-tool nsenter ldapmodify ldapsearch pamtester; do
    command -v $program >/dev/null || { echo "skipped: sssd.sh: '$program' is not installed"; exit 0; }
done
"$peers" unpack "$work/sssd" sssd || { echo "skipped: sssd.sh: sssd's packages cannot be fetched"; exit 0; }
"$LAB_SCRIPTS/samba/start.sh" "$work/dc" || die "no domain controller" "see above"
samba=$(cat "$work/dc/samba.pid")
inside() { nsenter --net="/proc/$samba/ns/net" "$@"; }
change() {
    LDAPTLS_CACERT=$work/dc/tls/ca.pem inside ldapmodify -x -H ldaps://127.0.0.1 -D administrator@example.test \
        -y "$work/dc/secret/admin-password" >"$work/ldapmodify" 2>&1 || { cat "$work/ldapmodify" >&2; die "no change" "see above"; }
}
entry() { printf 'dn: CN=%s,CN=Users,DC=example,DC=test\nchangetype: %s\n' "$1" "$2"; }
group() {
    entry "$1" add
    printf 'objectClass: group\nsAMAccountName: %s\ngroupType: %s\n' "$1" "$2"
    shift 2
    [ $# -eq 0 ] || printf 'member: CN=%s,CN=Users,DC=example,DC=test\n' "$@"
    echo
}
# Groups of all scopes, above the primary one, in a circle, by mail, with a long name, and six deep; and dave with another
# primary group.
global=-2147483646 universal=-2147483640 of_domain=-2147483644 mail=2
{
    group 'All Staff' $global 'Domain Users'
    group campus $universal 'All Staff' gina
    entry 'All Staff' modify; printf 'replace: groupType\ngroupType: %s\n-\nadd: member\nmember: CN=campus,CN=Users,DC=example,DC=test\n\n' $universal
    group printers $of_domain science
    group letters $mail bob
    group 'Research Computing Users with a long Name of 64 Characters or so' $global carol
    below=erin
    for level in 1 2 3 4 5 6; do group "level $level" $global "$below"; below="level $level"; done
} | change
# The last four bytes of a SID.
rid=$(LDAPTLS_CACERT=$work/dc/tls/ca.pem inside ldapsearch -x -LLL -o ldif-wrap=no -H ldaps://127.0.0.1 -D reader@example.test \
    -y "$work/dc/secret/reader-password" -b dc=example,dc=test '(cn=physics)' objectSid |
    sed -n 's/^objectSid:: //p' | base64 -d | tail -c 4 | od -An -tu4 | tr -d ' ')
{
    entry physics modify; printf 'add: member\nmember: CN=dave,CN=Users,DC=example,DC=test\n\n'
    entry dave modify; printf 'replace: primaryGroupID\nprimaryGroupID: %s\n\n' "$rid"
} | change
# Numbers of their own, for the third time; gina has none, and neither has chemistry.
{
    n=6000
    for user in bob dave erin frank; do
        n=$((n + 1))
        entry $user modify; printf 'replace: uidNumber\nuidNumber: %s\n-\nreplace: gidNumber\ngidNumber: 5100\n\n' $n
    done
    for name in 'Domain Users' science 'All Staff' campus 'level 1' 'level 3' 'level 6' letters; do
        entry "$name" modify; printf 'replace: gidNumber\ngidNumber: %s\n\n' $((5100 + n - 6004))
        n=$((n + 1))
    done
} | change

# Both are asked by this: names, then numbers of what was found. Of primary groups sssd lists those members that it was
# asked about before, so their lists are not compared; nor are homes and full names, which are settings.
cat >"$work/ask.sh" <<'C'
for name in bob carol dave erin frank gina reader administrator krbtgt guest dc1 nobody-at-all; do
    user=$(getent passwd "$name" | cut -d: -f1,3,4) || user=none
    uid=$(echo "$user" | cut -d: -f2)
    echo "user $name: $user; by number: $(getent passwd "${uid:-none}" | cut -d: -f1)"
    echo "groups of $name: $(id -G "$name" 2>/dev/null | tr ' ' '\n' | sort -nu | paste -sd ' ')"
    echo "names of them: $(id -Gn "$name" 2>/dev/null | tr ' ' '\n' | sort -u | paste -sd ' ')"
done
for name in physics chemistry science empty campus printers letters all_staff level_1 level_3 level_6 domain_users \
    domain_admins domain_guests research_computing_users_with_a_long_name_of_64_characters_or_so \
    denied_rodc_password_replication_group no_such_group; do
    group=$(getent group "$name") || group=none
    members=$(echo "$group" | cut -s -d: -f4 | tr , '\n' | sort -u | paste -sd,)
    case $name in
    physics | all_staff | campus | domain_users | domain_guests) members='not compared' ;;
    esac
    gid=$(echo "$group" | cut -s -d: -f3)
    echo "group $name: $(echo "$group" | cut -d: -f1,3): $members; by number: $(getent group "${gid:-none}" | cut -d: -f1)"
done
C

# ask_sssd WHERE LINES: writes what sssd says, and whom its account step lets in.
ask_sssd() {
    cat >"$work/sssd/sssd.conf" <<C
[sssd]
services = nss, pam
domains = example.test
override_space = _
[domain/example.test]
id_provider = ldap
auth_provider = none
access_provider = ldap
timeout = 120
ldap_search_timeout = 60
ldap_opt_timeout = 60
ldap_network_timeout = 60
ldap_access_order = expire
ldap_account_expire_policy = ad
ldap_uri = ldaps://127.0.0.1
ldap_tls_cacert = $work/dc/tls/ca.pem
ldap_schema = ad
ldap_use_tokengroups = true
ldap_group_nesting_level = 10
ldap_search_base = dc=example,dc=test
ldap_default_bind_dn = reader@example.test
ldap_default_authtok = $(cat "$work/dc/secret/reader-password")
case_sensitive = false
fallback_homedir = /home/%u
default_shell = /bin/bash
$2
C
    chmod 0600 "$work/sssd/sssd.conf"
    mkdir -p "$work/sssd/etc/pam.d"
    printf 'account required pam_sss.so\n' >"$work/sssd/etc/pam.d/compared"
    rm -f "$work/inside"
    inside "$peers" run "$work/sssd" sssd sh -c 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep infinity' "$work/inside" \
        >"$work/sssd.out" 2>&1 &
    sssd=$!
    until_so 120 test -e "$work/inside" || { cat "$work/sssd.out" >&2; die "sssd does not serve" "see above"; }
    sssd="$(cat "$work/inside") $sssd"
    local there="nsenter --mount=/proc/${sssd%% *}/ns/mnt" name
    {
        $there sh "$work/ask.sh"
        for name in $3; do
            echo "account $name: $($there pamtester compared "$name" acct_mgmt >/dev/null 2>&1 && echo open || echo closed)"
        done
    } >"$1"
    # shellcheck disable=SC2086
    stop $sssd
    sssd=''
}

# ask_directoryd WHERE LINES: writes what directoryd says, and whom it lets in.
ask_directoryd() {
    local name
    rm -rf "$work/nscd" "$work/run" "$work/state"
    mkdir "$work/nscd" "$work/run" "$work/state"
    cat >"$work/directoryd.toml" <<C
nscd-socket = "$work/nscd/socket"
control-socket = "$work/run/control.sock"
state-dir = "$work/state"
[ldap]
uris = ["ldaps://127.0.0.1"]
ca-file = "$work/dc/tls/ca.pem"
bind-dn = "reader@example.test"
bind-password-file = "$work/dc/secret/reader-password"
schema = "ad"
base = "dc=example,dc=test"
$2
C
    inside "$programs/directoryd" --config "$work/directoryd.toml" 2>"$work/log" &
    daemon=$!
    until_so 120 "$programs/directoryd" --config "$work/directoryd.toml" status ||
        { cat "$work/log" >&2; die "directoryd does not serve" "see above"; }
    {
        unshare --mount sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/nscd && mount --bind "$1" /run/nscd && exec sh "$2"' \
            sh "$work/nscd" "$work/ask.sh"
        for name in $3; do
            echo "account $name: $("$programs/directoryd" --config "$work/directoryd.toml" explain "$name" >/dev/null 2>&1 && echo open || echo closed)"
        done
    } >"$1"
    stop "$daemon"
    daemon=''
}

# compare WHAT THEIR-LINES OUR-LINES USERS: one after the other, and line by line. Hours are not sssd's, so gina is no case.
compare() {
    ask_sssd "$work/theirs" "$2" "$4"
    ask_directoryd "$work/ours" "$3" "$4"
    local theirs ours
    while IFS= read -r theirs <&3 && IFS= read -r ours <&4; do
        if [ "$theirs" = "$ours" ]; then
            echo "ok $1: $theirs"
            passed=$((passed + 1))
        else
            echo "not ok $1: $theirs; directoryd: $ours"
            failed=$((failed + 1))
        fi
    done 3<"$work/theirs" 4<"$work/ours"
    # Two that know nobody would agree too.
    grep -q '^user bob: bob:[0-9]' "$work/theirs" || { echo "not ok $1: bob is there"; failed=$((failed + 1)); }
}
compare 'ids from SIDs' 'ldap_id_mapping = true' '' 'bob carol dave erin frank administrator nobody-at-all'
compare 'slices of 1000' $'ldap_id_mapping = true\nldap_idmap_range_size = 1000' 'id-map = { size = 1000 }' 'bob dave'
compare 'ids of the entries' 'ldap_id_mapping = false' 'id-mapping = false' 'bob carol dave erin'
echo "test result: $passed passed; $failed failed;"
[ "$failed" -eq 0 ]
