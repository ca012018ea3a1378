#!/bin/sh
# Starts a real slapd with a small directory under dc=example,dc=org, for tests and the lab.
#
#   start.sh [--foreground] DIR PORT
#
# DIR is filled on the first run and used again afterwards. It then holds:
#   secret/admin-password, secret/reader-password   of cn=admin and cn=reader (mode 0640, no newline)
#   secret/person-password                          of bob, carol, dave and erin
#   secret/bob, secret/bob.pub                      an ssh key of bob
#   tls/ca.pem                                      the CA of its certificate (StartTLS and ldaps)
#   slapd.pid, slapd.log
# A password file laid there beforehand is taken as it is.
# Environment: SLAPD_LISTEN (default 127.0.0.1; 0.0.0.0 in a container), SLAPD_TLS_PORT (ldaps as
# well), SLAPD_NAMES (more names for the certificate, comma-separated), SLAPD_SCHEMA (rfc2307bis or
# rfc2307), SLAPD_EXTRA (a LDIF file added on the first run), SLAPD_LIMITS (of the reader, as in
# slapd.conf(5); default size.prtotal=unlimited).
# Without --foreground it returns when slapd answers; stop it with: kill "$(cat DIR/slapd.pid)"
set -eu

here=$(cd "$(dirname "$0")" && pwd)
foreground=no
if [ "${1:-}" = --foreground ]; then foreground=yes; shift; fi
[ $# -eq 2 ] || { echo "usage: $0 [--foreground] DIR PORT" >&2; exit 64; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
port=$2
listen=${SLAPD_LISTEN:-127.0.0.1}
schema=${SLAPD_SCHEMA:-rfc2307bis}
PATH=$PATH:/usr/sbin:/sbin
for program in slapd slapadd slappasswd openssl; do
    command -v "$program" >/dev/null || { echo "$0: '$program' is not installed" >&2; exit 69; }
done

mkdir -p "$dir/secret" "$dir/tls" "$dir/db"

if [ ! -e "$dir/tls/server.pem" ]; then
    # The machine's own name: libldap looks up what "localhost" is called before it compares.
    names="DNS:localhost,DNS:ldap,DNS:$(uname -n),IP:127.0.0.1"
    for name in $(echo "${SLAPD_NAMES:-}" | tr , ' '); do names="$names,DNS:$name"; done
    (
        cd "$dir/tls"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
            -keyout ca.key -out ca.pem -subj "/CN=lab CA" \
            -addext keyUsage=critical,keyCertSign
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
            -keyout server.key -out server.csr -subj "/CN=ldap"
        printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' \
            "$names" >server.ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
            -days 3650 -extfile server.ext -out server.new
        mv server.new server.pem
    ) 2>"$dir/tls/openssl.log" || { cat "$dir/tls/openssl.log" >&2; exit 1; }
fi

# Random, without a newline, so that the same file serves ldapsearch -y and every daemon.
secret() {
    [ -e "$dir/secret/$1" ] || (umask 027; openssl rand -hex 12 | tr -d '\n' >"$dir/secret/$1")
}
secret admin-password
secret reader-password
secret person-password

cat >"$dir/slapd.conf" <<CONF
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
$(if [ "$schema" = rfc2307 ]; then
    echo "include /etc/ldap/schema/nis.schema"
else
    echo "include $here/rfc2307bis.schema"
fi)
include /etc/ldap/schema/inetorgperson.schema
include $here/openssh-lpk.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
moduleload syncprov
pidfile $dir/slapd.pid
argsfile $dir/slapd.args
TLSCACertificateFile $dir/tls/ca.pem
TLSCertificateFile $dir/tls/server.pem
TLSCertificateKeyFile $dir/tls/server.key
disallow bind_anon
require authc
database mdb
suffix dc=example,dc=org
directory $dir/db
maxsize 1073741824
# The lab is thrown away: speed before durability.
dbnosync
index objectClass,uid,cn,uidNumber,gidNumber,member,memberUid,entryUUID,entryCSN eq
overlay ppolicy
ppolicy_default cn=policy,dc=example,dc=org
overlay syncprov
limits dn.exact="cn=reader,dc=example,dc=org" ${SLAPD_LIMITS:-size.prtotal=unlimited} time=60
access to attrs=userPassword
    by dn.exact="cn=admin,dc=example,dc=org" manage
    by self write
    by anonymous auth
    by * none
access to *
    by dn.exact="cn=admin,dc=example,dc=org" manage
    by dn.exact="cn=reader,dc=example,dc=org" read
    by self read
    by * none
CONF

if [ ! -e "$dir/db/filled" ]; then
    rm -f "$dir"/db/*.mdb
    if [ ! -e "$dir/secret/bob.pub" ]; then
        if command -v ssh-keygen >/dev/null; then
            ssh-keygen -q -t ed25519 -N '' -C bob -f "$dir/secret/bob"
        else
            # A key nobody holds, so that bob has one.
            echo "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB bob" \
                >"$dir/secret/bob.pub"
        fi
    fi
    hash() { slappasswd -n -T "$dir/secret/$1"; }
    (umask 077; : >"$dir/fill.ldif")
    sed -e "s|@admin@|$(hash admin-password)|" \
        -e "s|@reader@|$(hash reader-password)|" \
        -e "s|@person@|$(hash person-password)|" \
        -e "s|@key@|$(cat "$dir/secret/bob.pub")|" \
        "$here/base.ldif" "$here/groups-$schema.ldif" >>"$dir/fill.ldif"
    if [ -n "${SLAPD_EXTRA:-}" ]; then { echo; cat "$SLAPD_EXTRA"; } >>"$dir/fill.ldif"; fi
    slapadd -q -f "$dir/slapd.conf" -l "$dir/fill.ldif"
    rm "$dir/fill.ldif"
    : >"$dir/db/filled"
fi

uris="ldap://$listen:$port"
[ -z "${SLAPD_TLS_PORT:-}" ] || uris="$uris ldaps://$listen:$SLAPD_TLS_PORT"
# -d 0 keeps it in the foreground, without a word.
if [ "$foreground" = yes ]; then
    exec slapd -d "${SLAPD_DEBUG:-0}" -f "$dir/slapd.conf" -h "$uris"
fi
rm -f "$dir/slapd.pid"
slapd -d "${SLAPD_DEBUG:-0}" -f "$dir/slapd.conf" -h "$uris" >"$dir/slapd.log" 2>&1 </dev/null &
slapd=$!
tries=0
until ldapwhoami -x -H "ldap://127.0.0.1:$port" -D cn=reader,dc=example,dc=org \
    -y "$dir/secret/reader-password" >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ] || ! kill -0 "$slapd" 2>/dev/null; then
        echo "$0: slapd does not answer on port $port:" >&2
        cat "$dir/slapd.log" >&2
        kill "$slapd" 2>/dev/null || :
        exit 1
    fi
    sleep 0.1
done
