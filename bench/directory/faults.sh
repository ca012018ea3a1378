#!/bin/bash
# directoryd beside sssd while the same slapd fails: frozen, killed, with a certificate that has expired, with another
# password for both. A user whom both have been asked for, one whom nobody has asked for, and the groups of the first are
# asked for through glibc, with the time that it takes; then, when slapd is well again, the time until one whom nobody has
# asked for is there.
#
#   faults.sh [SECONDS]      how long each fault lasts before anything is asked; default 5
#
# Written to bench/results/directory-faults.txt. Needs root, slapd, openssl and Debian's package mirror (peers.sh).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
lasts=${1:-5}
results=$repo/bench/results/directory-faults.txt
for program in slapd ldapmodify openssl unshare apt-get; do
    command -v $program >/dev/null || { echo "skipped bench/directory/faults: '$program' is not installed"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "skipped bench/directory/faults: not root"; exit 0; }

dir=$(mktemp -d)
chmod 755 "$dir"
running=()
cleanup() {
    for pid in "${running[@]}"; do kill "$pid" 2>/dev/null || :; done
    [ ! -e "$dir/slapd/slapd.pid" ] || { kill -CONT "$(cat "$dir/slapd/slapd.pid")" && kill "$(cat "$dir/slapd/slapd.pid")"; } 2>/dev/null || :
    wait
    rm -rf "$dir"
}
trap cleanup EXIT
say() { echo "bench/directory/faults: $*" >&2; }
now() { date +%s%3N; }

say "building"
[ -n "${DIRECTORYD:-}" ] || (cd "$repo" && cargo build --release -q -p directoryd)
directoryd=${DIRECTORYD:-${CARGO_TARGET_DIR:-$repo/target}/release/directoryd}

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
awk -v users=500 -v projects=100 -v nobody=1 -f "$here/people.awk" >"$dir/people.ldif"
slapd_up() { SLAPD_EXTRA=$dir/people.ldif "$repo/tests/lab/slapd/start.sh" "$dir/slapd" "$port" >/dev/null; }
slapd_down() { # SIGNAL
    local pid
    pid=$(cat "$dir/slapd/slapd.pid")
    kill "-$1" "$pid"
    while [ -e "/proc/$pid/fd/0" ]; do sleep 0.02; done
}
slapd_up
reader=$(cat "$dir/slapd/secret/reader-password")
say "fetching sssd"
"$here/peers.sh" unpack "$dir/sssd" sssd
cat >"$dir/sssd/sssd.conf" <<CONF
[sssd]
services = nss
domains = lab
[nss]
[domain/lab]
id_provider = ldap
access_provider = permit
auth_provider = none
ldap_uri = ldap://127.0.0.1:$port
ldap_schema = rfc2307bis
ldap_search_base = dc=example,dc=org
ldap_user_search_base = ou=people,dc=example,dc=org
ldap_group_search_base = ou=groups,dc=example,dc=org
ldap_default_bind_dn = cn=reader,dc=example,dc=org
ldap_default_authtok = $reader
ldap_id_use_start_tls = true
ldap_tls_cacert = $dir/slapd/tls/ca.pem
CONF
chmod 600 "$dir/sssd/sssd.conf"
mkdir "$dir/sockets" "$dir/run" "$dir/state"
cat >"$dir/directoryd.toml" <<CONF
nscd-socket = "$dir/sockets/socket"
control-socket = "$dir/run/control.sock"
state-dir = "$dir/state"
[ldap]
uris = ["ldap://127.0.0.1:$port"]
ca-file = "$dir/slapd/tls/ca.pem"
bind-dn = "cn=reader,dc=example,dc=org"
bind-password-file = "$dir/slapd/secret/reader-password"
base = "dc=example,dc=org"
user-base = "ou=people,dc=example,dc=org"
group-base = "ou=groups,dc=example,dc=org"
CONF
"$directoryd" --config "$dir/directoryd.toml" 2>"$dir/log" &
running+=($!)
until "$directoryd" --config "$dir/directoryd.toml" status >/dev/null 2>&1; do sleep 0.1; done
"$here/peers.sh" run "$dir/sssd" sssd sh -c 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep infinity' "$dir/sssd/inside" \
    >"$dir/sssd/starting" 2>&1 &
running+=($!)
until [ -e "$dir/sssd/inside" ]; do
    kill -0 $! 2>/dev/null || { cat "$dir/sssd/starting" >&2; exit 1; }
    sleep 0.1
done
running+=("$(cat "$dir/sssd/inside")")

as() { # WHO COMMAND..
    case $1 in
    directoryd) unshare -m sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/nscd && mount --bind "$1" /run/nscd && shift
        exec "$@"' sh "$dir/sockets" "${@:2}" ;;
    sssd) nsenter --mount="/proc/$(cat "$dir/sssd/inside")/ns/mnt" "${@:2}" ;;
    esac
}

asked() { # WHO COMMAND..: the answer and its time
    local before code=0
    before=$(now)
    as "$1" timeout 60 "${@:2}" >"$dir/answer" 2>/dev/null || code=$?
    case $code in
    0) printf 'found' ;;
    124) printf 'no answer' ;;
    *) printf '"no such user"' ;;
    esac
    printf ' (%d ms)' $(($(now) - before))
}

fresh=100
next() { fresh=$((fresh + 1)); name=$(printf 'u%05d' $fresh); }

fault() { # NAME BREAK HEAL
    say "$1"
    for who in directoryd sssd; do
        as "$who" getent passwd u00001 >/dev/null
        as "$who" id -G u00001 >/dev/null
    done
    $2
    sleep "$lasts"
    {
        echo "$1:"
        for who in directoryd sssd; do
            next
            printf '  %-10s  known user %s; groups %s; another user %s\n' $who "$(asked $who getent passwd u00001)" \
                "$(asked $who id -G u00001)" "$(asked $who getent passwd "$name")"
        done
    } >>"$dir/results"
    $3
    local before
    before=$(now)
    for who in directoryd sssd; do
        next
        (
            until as $who timeout 60 getent passwd "$name" >/dev/null || [ $(($(now) - before)) -gt 240000 ]; do sleep 0.1; done
            printf '  %-10s  after the end of it, a user nobody has asked for is there: %d ms\n' $who $(($(now) - before)) \
                >"$dir/after.$who"
        ) &
        waited[${#waited[@]}]=$!
    done
    wait "${waited[@]}"
    waited=()
    cat "$dir/after.directoryd" "$dir/after.sssd" >>"$dir/results"
}
waited=()

frozen() { kill -STOP "$(cat "$dir/slapd/slapd.pid")"; }
thawed() { kill -CONT "$(cat "$dir/slapd/slapd.pid")"; }
killed() { slapd_down KILL; }
expired() {
    slapd_down TERM
    cp "$dir/slapd/tls/server.pem" "$dir/slapd/tls/server.good"
    (cd "$dir/slapd/tls" && openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 \
        -extfile server.ext -out server.pem 2>/dev/null)
    slapd_up
}
renewed() {
    slapd_down TERM
    cp "$dir/slapd/tls/server.good" "$dir/slapd/tls/server.pem"
    slapd_up
}
password() {
    printf 'dn: cn=reader,dc=example,dc=org\nchangetype: modify\nreplace: userPassword\nuserPassword: %s\n' "$1" |
        ldapmodify -x -H "ldap://127.0.0.1:$port" -D cn=admin,dc=example,dc=org -y "$dir/slapd/secret/admin-password" >/dev/null
    # Connections of before are to end; start.sh would try the password that was.
    slapd_down TERM
    slapd -d 0 -f "$dir/slapd/slapd.conf" -h "ldap://127.0.0.1:$port" >"$dir/slapd/slapd.log" 2>&1 </dev/null &
    echo $! >"$dir/slapd/slapd.pid"
    until ldapwhoami -x -H "ldap://127.0.0.1:$port" -D cn=admin,dc=example,dc=org \
        -y "$dir/slapd/secret/admin-password" >/dev/null 2>&1; do sleep 0.05; done
}
other_password() { password another; }
same_password() { password "$reader"; }

: >"$dir/results"
fault "frozen (SIGSTOP)" frozen thawed
fault "killed" killed slapd_up
fault "its certificate has expired" expired renewed
fault "it takes another password of ours" other_password same_password
{
    version=$(as sssd sssd --version 2>/dev/null || :)
    echo "$(date -u +%F), $(nproc) cores, $(uname -r); sssd $version, both with their defaults; each fault for $lasts s before it is asked"
    cat "$dir/results"
} | tee "$results"
