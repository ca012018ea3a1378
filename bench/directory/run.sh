#!/bin/bash
# getpwnam, getpwuid, initgroups and groups a second through glibc: directoryd's maps beside sssd's.
#
#   run.sh [ROUNDS] [SECONDS]       default 5 rounds of 1 s for each kind and number of threads
#
# 10,000 users, 10,501 groups and 90,000 memberships in a real slapd; keys are random over 1,000 users whom
# both have warm. The peer is sssd with "passwd: files sss", Debian's packages run by hand. Raw runs go to
# bench/results/directory.csv. Needs root, slapd, cc and Debian's package mirror.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
rounds=${1:-5}
seconds=${2:-1}
users=1000
results=$repo/bench/results
for program in slapd ldapmodify cc unshare apt-get; do
    command -v $program >/dev/null || { echo "skipped bench/directory: '$program' is not installed"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "skipped bench/directory: not root"; exit 0; }

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
say() { echo "bench/directory: $*"; }

say "building"
(cd "$repo" && cargo build --release -q -p directoryd)
directoryd=${CARGO_TARGET_DIR:-$repo/target}/release/directoryd
cc -O2 -Wall -pthread -o "$dir/lookups" "$here/lookups.c"

say "filling slapd"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
awk -v users=10000 -v projects=10500 -f "$here/people.awk" >"$dir/people.ldif"
SLAPD_EXTRA=$dir/people.ldif "$repo/tests/lab/slapd/start.sh" "$dir/slapd" "$port"

say "fetching sssd"
"$here/sssd.sh" unpack "$dir/sssd"
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
ldap_default_authtok = $(cat "$dir/slapd/secret/reader-password")
ldap_id_use_start_tls = true
ldap_tls_cacert = $dir/slapd/tls/ca.pem
CONF
chmod 600 "$dir/sssd/sssd.conf"

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
"$directoryd" --config "$dir/directoryd.toml" 2>"$dir/log" &
daemon=$!
until "$directoryd" --config "$dir/directoryd.toml" status >/dev/null 2>&1; do sleep 0.1; done

ours() {
    unshare -m sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/nscd && mount --bind "$1" /run/nscd && shift
        exec "$@"' sh "$dir/nscd" "$@"
}

# Everything the rounds ask for, once, in both; and both must say the same.
cat >"$dir/warm.sh" <<'WARM'
n=0
while [ $n -lt "$1" ]; do
    printf 'u%05d\n' $n
    n=$((n + 1))
done >/tmp/names.$$
xargs -n 500 getent passwd </tmp/names.$$ >"$2/passwd"
sed 's/^u/p/' /tmp/names.$$ | xargs -n 500 getent group | sort >"$2/group"
getent group everybody | tr ',' '\n' | sort >"$2/everybody"
while read -r name; do echo "$name $(id -G "$name" | tr ' ' '\n' | sort | tr '\n' ' ')"; done \
    </tmp/names.$$ >"$2/ids"
rm /tmp/names.$$
WARM
mkdir "$dir/said-by-us" "$dir/said-by-sssd"
say "asking directoryd once about everything"
ours sh "$dir/warm.sh" $users "$dir/said-by-us"

cat >"$dir/rounds.sh" <<'ROUNDS'
# Inside sssd's namespace; a turn of ours leaves it by nsenter.
dir=$1 users=$2 rounds=$3 seconds=$4 outside=$5
sh "$dir/warm.sh" $users "$dir/said-by-sssd"
for round in $(seq "$rounds"); do
    for threads in 1 2; do
        for kind in name uid absent initgroups group everybody; do
            for who in directoryd sssd; do
                case $who in
                directoryd) run="nsenter --mount=$outside sh $dir/ours.sh" ;;
                sssd) run= ;;
                esac
                echo "$who,$round,$($run "$dir/lookups" $kind $threads "$seconds" $users)"
            done
        done
    done
done
ROUNDS
cat >"$dir/ours.sh" <<OURS
exec unshare -m sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/nscd && mount --bind $dir/nscd /run/nscd
    exec "\$@"' sh "\$@"
OURS
say "asking sssd once about everything, then $rounds rounds"
csv=$results/directory.csv
mkdir -p "$results"
{
    echo "who,round,kind,threads,per_second,p50_ns,p99_ns,wrong"
    "$here/sssd.sh" run "$dir/sssd" bash "$dir/rounds.sh" "$dir" $users "$rounds" "$seconds" "/proc/$$/ns/mnt"
} >"$dir/raw.csv"
cp "$dir/raw.csv" "$csv"

{
    echo "$(date -u +%F), $(nproc) cores, $(ldd --version | head -1), $(uname -r); 10,000 users, 10,501 groups; medians of $rounds runs of $seconds s"
    for file in passwd group everybody ids; do
        if cmp -s <(sed 's/^\([^:]*\):[*x]:/\1::/' "$dir/said-by-us/$file") \
            <(sed 's/^\([^:]*\):[*x]:/\1::/' "$dir/said-by-sssd/$file"); then
            echo "answers equal: $file ($(wc -l <"$dir/said-by-us/$file") lines)"
        else
            echo "ANSWERS DIFFER: $file"
            diff "$dir/said-by-us/$file" "$dir/said-by-sssd/$file" | head -5 || :
        fi
    done
    printf '%-12s %7s %14s %14s %8s %10s %10s %6s\n' kind threads directoryd/s sssd/s ratio p50_ns sssd_p50 wrong
    for threads in 1 2; do
        for kind in name uid absent initgroups group everybody; do
            median() {
                awk -F, -v who="$1" -v kind=$kind -v threads=$threads -v field="$2" \
                    '$1 == who && $3 == kind && $4 == threads {print $field}' "$csv" | sort -n |
                    awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'
            }
            wrong=$(awk -F, -v kind=$kind -v threads=$threads \
                '$3 == kind && $4 == threads {w += $8} END {print w}' "$csv")
            us=$(median directoryd 5) them=$(median sssd 5)
            printf '%-12s %7s %14s %14s %8s %10s %10s %6s\n' $kind $threads "$us" "$them" \
                "$(awk -v a="$us" -v b="$them" 'BEGIN {printf "%.1f", a / b}')" \
                "$(median directoryd 6)" "$(median sssd 6)" "$wrong"
        done
    done
    rss() { awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$1/status"; }
    echo "memory of directoryd: $(rss $daemon) MiB; replica on disk: $(($(stat -c %s "$dir/state/replica") / 1024)) KiB"
    grep -o 'generation.published.*' "$dir/log" | tail -1
} | tee "$results/directory.txt"
