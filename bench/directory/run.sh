#!/bin/bash
# getpwnam, getpwuid, initgroups and groups a second through glibc: directoryd's maps beside sssd, nslcd and nscd.
#
#   run.sh [ROUNDS] [SECONDS] [PEOPLE]      default 5 rounds of 1 s for each kind and number of threads, 10,000 users
#
# So many users in a real slapd, each in 8 of 10,500 groups, and one group that holds everybody (not above 10,000 users:
# the peers take minutes for it). Keys are random over 1,000 users whom all have been asked for before; in the lines
# "cold" each is asked for once, by 200 names that nobody has asked for. The peers are Debian's packages run by hand (peers.sh): sssd with "passwd: files sss", nslcd
# with "passwd: files ldap", and the same behind nscd. Raw runs go to bench/results/directory.csv, or
# directory-PEOPLE.csv. Needs root, slapd, cc and Debian's package mirror.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
rounds=${1:-5}
seconds=${2:-1}
people=${3:-10000}
users=1000 cold=200
kinds=(name uid absent initgroups group) answers=(passwd group ids) nobody=1
[ "$people" -gt 10000 ] || { kinds+=(everybody) answers+=(everybody) nobody=; }
results=$repo/bench/results/directory
[ "$people" = 10000 ] || results+=-$people
for program in slapd ldapmodify cc unshare apt-get; do
    command -v $program >/dev/null || { echo "skipped bench/directory: '$program' is not installed"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "skipped bench/directory: not root"; exit 0; }

dir=$(mktemp -d)
chmod 755 "$dir"
daemon=
peers=(sssd nslcd nscd)
running=()
cleanup() {
    for pid in $daemon "${running[@]}"; do kill "$pid" 2>/dev/null || :; done
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
awk -v users="$people" -v projects=10500 -v nobody="$nobody" -f "$here/people.awk" >"$dir/people.ldif"
SLAPD_EXTRA=$dir/people.ldif "$repo/tests/lab/slapd/start.sh" "$dir/slapd" "$port"

say "fetching ${peers[*]}"
for peer in "${peers[@]}"; do "$here/peers.sh" unpack "$dir/$peer" "$peer"; done
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
cat >"$dir/nslcd/etc/nslcd.conf" <<CONF
uri ldap://127.0.0.1:$port
base dc=example,dc=org
base passwd ou=people,dc=example,dc=org
base group ou=groups,dc=example,dc=org
binddn cn=reader,dc=example,dc=org
bindpw $(cat "$dir/slapd/secret/reader-password")
ssl start_tls
tls_reqcert demand
tls_cacertfile $dir/slapd/tls/ca.pem
CONF
chmod 600 "$dir/nslcd/etc/nslcd.conf"
cp -p "$dir/nslcd/etc/nslcd.conf" "$dir/nscd/etc/"

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
daemon=$!
until "$directoryd" --config "$dir/directoryd.toml" status >/dev/null 2>&1; do sleep 0.1; done

ours() {
    unshare -m sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/nscd && mount --bind "$1" /run/nscd && shift
        exec "$@"' sh "$dir/sockets" "$@"
}

# Everything the rounds ask for, once, in each; and all must say the same.
cat >"$dir/warm.sh" <<'WARM'
n=0
while [ $n -lt "$1" ]; do
    printf 'u%05d\n' $n
    n=$((n + 1))
done >/tmp/names.$$
xargs -n 500 getent passwd </tmp/names.$$ >"$2/passwd"
# The order of members is nobody's promise.
sed 's/^u/p/' /tmp/names.$$ | xargs -n 500 getent group | while IFS=: read -r name pass gid members; do
    echo "$name:$pass:$gid:$(echo "$members" | tr ',' '\n' | sort | paste -sd,)"
done | sort >"$2/group"
[ -n "$3" ] || getent group everybody | cut -d: -f4 | tr ',' '\n' | sort >"$2/everybody"
while read -r name; do echo "$name $(id -G "$name" | tr ' ' '\n' | sort | tr '\n' ' ')"; done \
    </tmp/names.$$ >"$2/ids"
rm /tmp/names.$$
WARM
mkdir "$dir/said-by-us"
say "asking directoryd once about everything"
ours sh "$dir/warm.sh" $users "$dir/said-by-us" "$nobody"

# Each peer has its mounts for as long as this runs; a turn enters them.
for peer in "${peers[@]}"; do
    say "asking $peer once about everything"
    "$here/peers.sh" run "$dir/$peer" "$peer" sh -c 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep infinity' \
        "$dir/$peer/inside" >"$dir/$peer/starting" 2>&1 &
    running+=($!)
    until [ -e "$dir/$peer/inside" ]; do
        kill -0 $! 2>/dev/null || { cat "$dir/$peer/starting" >&2; exit 1; }
        sleep 0.1
    done
    running+=("$(cat "$dir/$peer/inside")")
    mkdir "$dir/said-by-$peer"
    nsenter --mount="/proc/$(cat "$dir/$peer/inside")/ns/mnt" sh "$dir/warm.sh" $users "$dir/said-by-$peer" "$nobody"
done

turn() { # WHO ARGUMENTS OF LOOKUPS
    case $1 in
    directoryd) ours "$dir/lookups" "${@:2}" ;;
    *) nsenter --mount="/proc/$(cat "$dir/$1/inside")/ns/mnt" "$dir/lookups" "${@:2}" ;;
    esac
}
say "$rounds rounds"
csv=$results.csv
mkdir -p "${results%/*}"
echo "who,round,kind,threads,per_second,p50_ns,p99_ns,wrong" >"$dir/raw.csv"
for round in $(seq "$rounds"); do
    for threads in 1 2; do
        for kind in "${kinds[@]}"; do
            for who in directoryd "${peers[@]}"; do
                echo "$who,$round,$(turn "$who" "$kind" "$threads" "$seconds" $users)" >>"$dir/raw.csv"
            done
        done
    done
    for kind in name initgroups; do
        first=$((users + (2 * round - 1) * cold))
        [ $kind = name ] || first=$((first - cold))
        for who in directoryd "${peers[@]}"; do
            echo "$who,$round,cold-$(turn "$who" $kind 1 $first-$((first + cold)))" >>"$dir/raw.csv"
        done
    done
done
cp "$dir/raw.csv" "$csv"

{
    echo "$(date -u +%F), $(nproc) cores, $(ldd --version | head -1), $(uname -r); $people users; medians of $rounds runs of $seconds s"
    for peer in "${peers[@]}"; do
        for file in "${answers[@]}"; do
            if cmp -s <(sed 's/^\([^:]*\):[*x]:/\1::/' "$dir/said-by-us/$file") \
                <(sed 's/^\([^:]*\):[*x]:/\1::/' "$dir/said-by-$peer/$file"); then
                echo "answers equal: $file, $peer ($(wc -l <"$dir/said-by-us/$file") lines)"
            else
                echo "ANSWERS DIFFER: $file, $peer"
                diff "$dir/said-by-us/$file" "$dir/said-by-$peer/$file" | head -5 || :
                touch "$dir/differ"
            fi
        done
    done
    median() { # WHO KIND THREADS FIELD
        awk -F, -v who="$1" -v kind="$2" -v threads="$3" -v field="$4" \
            '$1 == who && $3 == kind && $4 == threads {print $field}' "$csv" | sort -n |
            awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'
    }
    printf '%-15s %7s %12s' kind threads directoryd/s
    for peer in "${peers[@]}"; do printf ' %9s/s %7s' "$peer" ratio; done
    printf ' %8s' p50_ns
    for peer in "${peers[@]}"; do printf ' %9s' "$peer"; done
    printf ' %6s\n' wrong
    for threads in 1 2; do
        for kind in "${kinds[@]}" cold-name cold-initgroups; do
            [[ $threads-$kind != 2-cold* ]] || continue
            wrong=$(awk -F, -v kind="$kind" -v threads="$threads" \
                '$3 == kind && $4 == threads {w += $8} END {print w}' "$csv")
            us=$(median directoryd "$kind" "$threads" 5)
            printf '%-15s %7s %12s' "$kind" "$threads" "$us"
            for peer in "${peers[@]}"; do
                them=$(median "$peer" "$kind" "$threads" 5)
                printf ' %11s %7s' "$them" "$(awk -v a="$us" -v b="$them" 'BEGIN {printf "%.1f", a / (b ? b : 1)}')"
            done
            printf ' %8s' "$(median directoryd "$kind" "$threads" 6)"
            for peer in "${peers[@]}"; do printf ' %9s' "$(median "$peer" "$kind" "$threads" 6)"; done
            printf ' %6s\n' "$wrong"
        done
    done
    rss() { awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$1/status"; }
    echo "memory of directoryd: $(rss $daemon) MiB; replica on disk: $(($(stat -c %s "$dir/state/replica") / 1024)) KiB"
    grep -o 'generation.published.*' "$dir/log" | tail -1
} | tee "$results.txt"
# Numbers of wrong answers are none.
[ ! -e "$dir/differ" ] || { say "the answers differ" >&2; exit 1; }
