#!/bin/bash
# Tokens a second, latency and processor time: our signer, the real sackd of each version, and `floor`, which answers without
# doing anything, in turn on one machine, each with the same key, slurm.conf and clients. Raw runs go to bench/results/sack.csv, medians to bench/results/sack.txt.
#
#   run.sh [VERSION=ROOT...]    ROOT: a root folder with that version's sackd in usr/sbin. Without any, those of the lab's
#                               images (SACKD_IMAGE without its tag), in containers that are only mounted
# Environment: SHIM (target/release/sackd-shim), RUNS (5), SECONDS_EACH (2).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$here/../..
shim=${SHIM:-$repo/target/release/sackd-shim}
runs=${RUNS:-5} each=${SECONDS_EACH:-2}
results=$repo/bench/results
[ "$(id -u)" = 0 ] || { echo "run.sh: it needs root, for chroot" >&2; exit 77; }
[ -x "$shim" ] || { echo "run.sh: '$shim' is missing: cargo build --release -p sackd-shim" >&2; exit 1; }
work=$(mktemp -d)
server=
containers=()
ending() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ ${#containers[@]} -eq 0 ] || podman rm --force "${containers[@]}" >/dev/null || true
    rm -rf "$work"
}
trap ending EXIT
if [ $# -eq 0 ]; then
    for version in 24.11 26.05; do
        name=sackd-bench-$version-$$
        podman create --name "$name" "${SACKD_IMAGE:-localhost/slurm-login/slurm}:$version" true >/dev/null || continue
        containers+=("$name")
        root=$(podman mount "$name")
        [ ! -x "$root/usr/sbin/sackd" ] || set -- "$@" "$version=$root"
    done
    [ $# -gt 0 ] || { echo "run.sh: no image has a sackd: tests/lab/lab up" >&2; exit 1; }
fi
cc -O2 -Wall -o "$work/clients" "$here/clients.c"
cc -O2 -Wall -o "$work/floor" "$here/floor.c"
head -c 1024 /dev/urandom >"$work/slurm.key"
printf 'ClusterName=bench\nSlurmctldHost=localhost\nSlurmUser=root\nAuthType=auth/slurm\nAuthInfo=use_client_ids\nNodeName=n\n' >"$work/slurm.conf"
chmod 0755 "$work" && chmod 0600 "$work/slurm.key"
echo "server,operation,clients,run,per_second,p50_us,p99_us,failed,rss_kib,cpu_us" >"$results/sack.csv"

ready() { for _ in $(seq 100); do [ -S "$1" ] && return; sleep 0.1; done; echo "run.sh: no socket at '$1'" >&2; exit 1; }

# Clock ticks that the server has used.
used() { awk '{ print $14 + $15 }' "/proc/$server/stat"; }

# measure NAME SOCKET: all operations and numbers of clients.
measure() {
    local operation clients rss before cpu
    # A path of any length, in as few bytes as a socket's may have.
    ln -sfn "$(dirname "$2")" "$work/socket"
    for operation in create verify; do
        for clients in 1 8 64; do
            before=$(used)
            numbers=$("$work/clients" "$work/socket/$(basename "$2")" $operation $clients "$each")
            rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$server/status")
            cpu=$(awk -v ticks=$(($(used) - before)) -v rate="${numbers%%,*}" -v s="$each" -v hz="$(getconf CLK_TCK)" \
                'BEGIN { printf "%.1f", ticks / hz * 1e6 / (rate * s) }')
            echo "$1,$operation,$clients,$run,$numbers,$rss,$cpu" | tee -a "$results/sack.csv"
        done
    done
}

stop() { kill "$server"; wait "$server" 2>/dev/null || true; server=; }

for run in $(seq "$runs"); do
    rm -rf "$work/run" "$work/floor.run" && mkdir "$work/run" "$work/floor.run"
    cat >"$work/shim.toml" <<C
key-file = "$work/slurm.key"
conf = "$work/slurm.conf"
run-dir = "$work/run"
slurm-user = "0"
# The question is how fast it can be, not how fast one user may be.
limits = { requests-per-second = 0, system-requests-per-second = 0, connections = 1024, connections-per-user = 256 }
C
    "$shim" --config "$work/shim.toml" 2>"$work/shim.log" &
    server=$!
    ready "$work/run/sack.socket"
    measure sackd-shim "$work/run/sack.socket"
    stop
    for root in "$@"; do
        version=${root%%=*} root=${root#*=}
        install -d "$root/etc/slurm" "$root/run/slurm"
        install -m 0600 "$work/slurm.key" "$root/etc/slurm/slurm.key"
        install -m 0644 "$work/slurm.conf" "$root/etc/slurm/slurm.conf"
        chown root "$root/run/slurm" && rm -f "$root/run/slurm/sack.socket"
        chroot "$root" /usr/sbin/sackd -D -f /etc/slurm/slurm.conf 2>"$work/sackd.log" &
        server=$!
        ready "$root/run/slurm/sack.socket"
        measure "sackd-$version" "$root/run/slurm/sack.socket"
        stop
    done
    "$work/floor" "$work/floor.run/sack.socket" 1 &
    server=$!
    ready "$work/floor.run/sack.socket"
    measure floor "$work/floor.run/sack.socket"
    stop
done

python3 - "$results/sack.csv" >"$results/sack.txt" <<'P'
import csv, statistics, sys
from collections import defaultdict
cells, names = defaultdict(list), []
for row in csv.DictReader(open(sys.argv[1])):
    cells[row["server"], row["operation"], int(row["clients"])].append(row)
    if row["server"] not in names:
        names.append(row["server"])
median = lambda rows, key: statistics.median(float(r[key]) for r in rows)
print(f"{'server':14} {'operation':9} {'clients':>7} {'per s':>8} {'p50 us':>8} {'p99 us':>9} {'RSS KiB':>8} {'CPU us':>7}   ours: times as many, part of its p99")
for operation in ("create", "verify"):
    for clients in (1, 8, 64):
        ours = cells[names[0], operation, clients]
        for name in names:
            rows = cells[name, operation, clients]
            line = f"{name:14} {operation:9} {clients:7} {median(rows,'per_second'):8.0f} {median(rows,'p50_us'):8.0f} {median(rows,'p99_us'):9.0f} {median(rows,'rss_kib'):8.0f} {median(rows,'cpu_us'):7.1f}"
            if name != names[0]:
                line += f"   {median(ours,'per_second')/median(rows,'per_second'):.1f}x  1/{median(rows,'p99_us')/median(ours,'p99_us'):.1f}"
            print(line)
P
cat "$results/sack.txt"
