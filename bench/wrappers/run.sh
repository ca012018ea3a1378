#!/bin/sh
# What the wrapper adds to a Slurm client: `sinfo --version` real and wrapped, in turn.
#
#   bench/wrappers/run.sh [IMAGE]
#
# With IMAGE (a login image) it runs in a container of its own of that image, with the real sinfo. Without, it
# uses this machine's sinfo, or, where there is none, /bin/true under that name in a mount namespace,
# which says so in its first line. RUNS (default 200) sets how often. Raw runs are kept in
# bench/results/; the last lines are the medians. Ends with 1 if the median cost is 3 ms or more.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
runs=${RUNS:-200}
image=${1:-}
results=$root/bench/results
mkdir -p "$results"

if [ -n "$image" ]; then
    # The lab's podman settings, where the lab was started here.
    if [ -z "${CONTAINERS_CONF:-}" ] && [ -e "$root/.lab/containers.conf" ]; then
        export CONTAINERS_CONF="$root/.lab/containers.conf"
    fi
    # The real client reads a configuration before it says its version; no controller is asked.
    configured='printf "ClusterName=bench\nSlurmctldHost=localhost\n" >/tmp/slurm.conf
        export SLURM_CONF=/tmp/slurm.conf; exec "$@"'
    contained() {
        podman run --rm -i --network none --entrypoint /bin/sh "$image" -c "$configured" sh "$@"
    }
    version=$(contained /usr/bin/sinfo --version </dev/null)
    what=${version#slurm-wlm }
    label="the real and the wrapped sinfo of $version in a container of a login image"
    contained /bin/bash -s "$runs" /usr/bin/sinfo /usr/local/bin/sinfo --version \
        <"$here/measure.bash" >"$results/wrappers-$what.csv"
else
    wrapper=$root/target/release/slurm-client
    [ -x "$wrapper" ] || (cd "$root" && cargo build --release -q -p client-cli --bin slurm-client)
    links=$(mktemp -d)
    trap 'rm -r "$links"' EXIT
    ln -s "$wrapper" "$links/sinfo"
    if [ -x /usr/bin/sinfo ]; then
        what=host
        label="the real and the wrapped $(/usr/bin/sinfo --version) on the host"
        bash "$here/measure.bash" "$runs" /usr/bin/sinfo "$links/sinfo" --version \
            >"$results/wrappers-$what.csv"
    else
        what=stand-in
        label="/bin/true under the name sinfo: no Slurm client is installed here"
        namespace="unshare --mount"
        [ "$(id -u)" = 0 ] || namespace="unshare --mount --map-root-user"
        $namespace sh -eu -c '
            mount -t tmpfs none /opt
            mkdir -p /opt/slurm/bin
            cp /bin/true /opt/slurm/bin/sinfo
            exec bash "$@"' sh "$here/measure.bash" "$runs" /opt/slurm/bin/sinfo "$links/sinfo" \
            --version >"$results/wrappers-$what.csv"
    fi
fi

median() {
    grep ",$1," "$results/wrappers-$what.csv" | cut -d, -f3 | sort -n |
        awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}
real=$(median real)
wrapped=$(median wrapped)
{
    echo "# $label; $runs runs each; $(uname -m), $(nproc) processors"
    awk -v real="$real" -v wrapped="$wrapped" 'BEGIN {
        printf "median real %.3f ms, wrapped %.3f ms, the wrapper costs %.3f ms\n",
            real / 1000, wrapped / 1000, (wrapped - real) / 1000
    }'
} | tee "$results/wrappers-$what.txt"
awk -v real="$real" -v wrapped="$wrapped" 'BEGIN { exit wrapped - real >= 3000 }'
