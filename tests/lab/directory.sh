#!/bin/bash
# The directory: a real slapd in a container, with the content of tests/lab/slapd. Its database and secrets
# stand in .lab/directory, so that tests on this machine can read the passwords; it listens on the lab's
# network as `ldap` and on this machine's loopback.
. "$(dirname "$0")/environment.sh"

state=$(digest "$LAB_SCRIPTS"/slapd/* "$LAB_SCRIPTS/directory.sh")
if running $PREFIX-ldap && [ "$(cat "$LAB/directory.state" 2>/dev/null)" = "$state" ]; then
    say "directory: running"
    exit 0
fi
rm -f "$LAB/directory.state"
podman rm --force --time 2 --ignore $PREFIX-ldap >/dev/null
podman network exists $NETWORK || podman network create $NETWORK >/dev/null

# Passwords and keys outlive a change of the content; the database does not.
rm -rf "$LAB/directory/db"
mkdir -p "$LAB/directory"
chmod 0700 "$LAB/directory"

podman run --detach --init --name $PREFIX-ldap --hostname ldap --network $NETWORK --network-alias ldap \
    --publish "127.0.0.1:$LDAP_PORT:$LDAP_PORT" --env SLAPD_LISTEN=0.0.0.0 --env SLAPD_NAMES=ldap,ldap.dns.podman \
    --volume "$LAB/directory:/directory" --volume "$LAB_SCRIPTS/slapd:/lab:ro" \
    "$IMAGES/directory:dev" /bin/sh /lab/start.sh --foreground /directory "$LDAP_PORT" >/dev/null

answers() {
    podman exec $PREFIX-ldap ldapsearch -x -LLL -H "ldap://127.0.0.1:$LDAP_PORT" \
        -D "cn=reader,$SUFFIX" -y /directory/secret/reader-password -b "$SUFFIX" -s base dn
}
within 30 "directory: answers" answers || {
    podman logs $PREFIX-ldap 2>&1 | tail -n 20 >&2
    die "slapd did not come up" "tests/lab/lab logs directory"
}
echo "$state" >"$LAB/directory.state"
