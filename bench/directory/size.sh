#!/bin/bash
# How directoryd is with a big directory: 100,000 users, 20,000 groups, 1,000,000 memberships in a real slapd.
#
#   size.sh [USERS GROUPS EACH]     EACH: groups of a user; their members follow from that
#
# Written to bench/results/directory-size.txt: how long the first reading takes, how long a start from the copy
# on disk, how long a change until getent sees it, memory, and look-ups a second.
# Needs root, slapd, ldapmodify, cc.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
users=${1:-100000} groups=${2:-20000} each=${3:-10}
results=$repo/bench/results
for program in slapd ldapmodify cc unshare python3; do
    command -v $program >/dev/null || { echo "skipped bench/directory/size: '$program' is not installed"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "skipped bench/directory/size: not root"; exit 0; }

dir=$(mktemp -d)
chmod 755 "$dir"
daemon=
cleanup() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || :
    [ ! -e "$dir/slapd/slapd.pid" ] || kill "$(cat "$dir/slapd/slapd.pid")" 2>/dev/null || :
    sleep 0.5
    rm -rf "$dir"
}
trap cleanup EXIT
say() { echo "bench/directory/size: $*" >&2; }
now() { date +%s%3N; }

say "building"
[ -n "${DIRECTORYD:-}" ] || (cd "$repo" && cargo build --release -q -p directoryd)
directoryd=${DIRECTORYD:-${CARGO_TARGET_DIR:-$repo/target}/release/directoryd}
cc -O2 -Wall -pthread -o "$dir/lookups" "$here/lookups.c"

say "filling slapd"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
awk -v users="$users" -v projects="$groups" -v each="$each" -v nobody=1 -f "$here/people.awk" >"$dir/people.ldif"
SLAPD_EXTRA=$dir/people.ldif "$repo/tests/lab/slapd/start.sh" "$dir/slapd" "$port"
rm "$dir/people.ldif"

mkdir "$dir/nscd" "$dir/run" "$dir/state"
cat >"$dir/directoryd.toml" <<CONF
nscd-socket = "$dir/nscd/socket"
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
start() {
    "$directoryd" --config "$dir/directoryd.toml" 2>>"$dir/log" &
    daemon=$!
}
status() { "$directoryd" --config "$dir/directoryd.toml" status >/dev/null 2>&1; }
ours() {
    unshare -m sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/nscd && mount --bind "$1" /run/nscd && shift
        exec "$@"' sh "$dir/nscd" "$@"
}
cpu() { awk '{print ($14 + $15) * 10}' "/proc/$daemon/stat"; }
memory() { awk -v key="$1:" '$1 == key {print int($2 / 1024)}' "/proc/$daemon/status"; }
modify() {
    ldapmodify -x -H "ldap://127.0.0.1:$port" -D cn=admin,dc=example,dc=org -y "$dir/slapd/secret/admin-password" \
        >/dev/null
}
last=$(printf 'u%05d' $((users - 1)))

say "the first reading"
before=$(now)
start
until status; do sleep 0.05; done
first=$(($(now) - before)) first_cpu=$(cpu)
until grep -q sync.live "$dir/log"; do sleep 0.05; done
rss_first=$(memory VmRSS) peak_first=$(memory VmHWM)
# The copy reaches the disk within a second or so.
until [ -e "$dir/state/replica" ]; do sleep 0.1; done
kill "$daemon"
wait "$daemon" || :

say "a start from the copy on disk"
before=$(now)
start
until ours getent passwd "$last" >/dev/null; do sleep 0.01; done
again=$(($(now) - before)) again_cpu=$(cpu)
until [ "$(grep -c sync.live "$dir/log")" = 2 ]; do sleep 0.05; done

say "changes"
seen=() seen_cpu=()
for shell in /bin/zsh /bin/ksh /bin/sh; do
    printf 'dn: uid=%s,ou=people,dc=example,dc=org\nchangetype: modify\nreplace: loginShell\nloginShell: %s\n' \
        "$last" $shell | modify
    before=$(now) cpu_before=$(cpu)
    until ours getent passwd "$last" | grep -q "$shell$"; do :; done
    seen+=($(($(now) - before))) seen_cpu+=($(($(cpu) - cpu_before)))
    # The next is not held back for having come too soon.
    sleep 10
done
say "everything once more"
rss_changes=$(memory VmRSS) peak_changes=$(memory VmHWM) cpu_before=$(cpu)
"$directoryd" --config "$dir/directoryd.toml" refresh
refresh_cpu=$(($(cpu) - cpu_before))
rss_refresh=$(memory VmRSS) peak_refresh=$(memory VmHWM)
until [ "$(grep -c sync.live "$dir/log")" = 3 ]; do sleep 0.05; done
members=$(ours getent group p00000 | tr ',' '\n' | wc -l)
in_groups=$(ours id -G "$last" | wc -w)
cpu_before=$(cpu)
sleep 5
idle_cpu=$(($(cpu) - cpu_before))

{
    echo "$(date -u +%F), $(nproc) cores, $(uname -r); $users users, $groups groups, $((users * each)) memberships ($members in a group, $in_groups groups of a user)"
    echo "first reading, until users resolve: $first ms, of directoryd's processor time $first_cpu ms"
    echo "start from the copy on disk, until getent finds the last user: $again ms, processor $again_cpu ms (aim: below 1000)"
    echo "a change, until getent sees it: ${seen[*]} ms, processor ${seen_cpu[*]} ms"
    echo "reading everything once more: processor $refresh_cpu ms"
    echo "memory: $rss_changes MiB, highest $peak_changes (aim: below 150); after the first reading $rss_first, highest $peak_first; after everything was read once more $rss_refresh, highest $peak_refresh MiB"
    echo "besides that, shared with all programs: maps of $(($(stat -L -c %s "$dir"/nscd/*.map | awk '{s += $1} END {print s}') >> 20)) MiB in memory files, and the same as files; copy on disk: $(($(stat -c %s "$dir/state/replica") >> 20)) MiB"
    echo "processor while nothing changes: $idle_cpu ms in 5 s; load of the machine: $(cut -d" " -f1-3 /proc/loadavg)"
    grep -o 'generation.published.*' "$dir/log" | tail -3
    for kind in name uid initgroups group; do
        echo "look-ups: $(ours "$dir/lookups" $kind 1 1 1000)"
    done
} | tee "$results/directory-size.txt"
