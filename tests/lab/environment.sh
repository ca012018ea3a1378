# Sourced by every script of the lab: where its state stands, how it speaks, and a podman that reads
# our own configuration. Nothing here starts, builds or removes anything.
# shellcheck shell=bash

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LAB=$(realpath --canonicalize-missing "${LAB:-$REPO/.lab}")
LAB_SCRIPTS=$REPO/tests/lab
export LAB REPO
# State is thrown away by `lab down`; sources are not.
case $LAB/ in "$LAB_SCRIPTS"/* | "$REPO/" | //) echo "lab: LAB is '$LAB': not a place for state" >&2 && exit 64 ;; esac

# Every container, pod, network and volume of the lab carries this prefix; only those are ever removed.
# A second lab beside the first takes another prefix, other ports and another LAB.
PREFIX=${LAB_PREFIX:-slurm-login}
NETWORK=$PREFIX
HOME_VOLUME=$PREFIX-home
SUFFIX=dc=example,dc=org
IMAGES=localhost/slurm-login

SSH_PORT=${LAB_SSH_PORT:-2222}
HEALTH_PORT=${LAB_HEALTH_PORT:-18080}
LDAP_PORT=${LAB_LDAP_PORT:-3890}

# 24.11 is trixie's Slurm and 26.05 forky's; the directory and image names follow the version.
SLURM_VERSION=${SLURM_VERSION:-24.11}
case $SLURM_VERSION in
24.11) SUITE=trixie ;;
26.05) SUITE=forky ;;
*) echo "lab: SLURM_VERSION is '$SLURM_VERSION': 24.11 or 26.05 are known" >&2 && exit 64 ;;
esac

mkdir -p "$LAB/log" "$LAB/bin" "$LAB/secrets" "$LAB/tmp"
chmod 0700 "$LAB/secrets"
export PATH="$LAB/bin:$PATH"

# podman of Debian 12 needs runc on a hybrid cgroup host, and limits that a caller without
# CAP_SYS_RESOURCE may give. It reads this file alone, so the host's configuration is untouched. Networks are
# described where podman has them by default: a lab whose clone was deleted can still be taken down.
export CONTAINERS_CONF="$LAB/containers.conf"
cat >"$CONTAINERS_CONF.$$" <<CONF
[containers]
default_ulimits = ["nofile=4096:4096","nproc=4096:4096"]
[network]
network_backend = "netavark"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
mv "$CONTAINERS_CONF.$$" "$CONTAINERS_CONF"

# One clock for a whole run, also across the scripts that it calls.
export LAB_STARTED=${LAB_STARTED:-$(date +%s)}

say() { printf '[%4ds] %s\n' "$(($(date +%s) - LAB_STARTED))" "$*" >&2; }

die() {
    printf 'lab: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 70
}

# attempt NAME WHAT COMMAND...: runs a long command with its output in .lab/log/NAME.log and shows its last
# line every ten seconds. Returns what the command returned.
attempt() {
    local name=$1 what=$2 log=$LAB/log/$1.log job ticks=0
    shift 2
    say "$what"
    "$@" >"$log" 2>&1 &
    job=$!
    while kill -0 "$job" 2>/dev/null; do
        sleep 0.1
        ticks=$((ticks + 1))
        [ $((ticks % 100)) -ne 0 ] || say "  ... $(tail -n 1 "$log" | tr -d '\r' | cut -c 1-100)"
    done
    wait "$job"
}

# logged NAME WHAT COMMAND...: an attempt that ends the script, with the end of the log, when it fails.
logged() {
    attempt "$@" && return 0
    tail -n 40 "$LAB/log/$1.log" >&2
    die "'$2' failed" "the whole log is $LAB/log/$1.log"
}

# within SECONDS WHAT COMMAND...: waits until the command succeeds.
within() {
    local limit=$1 what=$2 began=$SECONDS
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $((SECONDS - began)) -lt "$limit" ] || return 1
        sleep 0.2
    done
    say "$what (after $((SECONDS - began)) s)"
}

# digest FILE...: one word that changes when any of the files does.
digest() { cat "$@" | sha256sum | cut -c 1-16; }

# Says whether an image was built from exactly these inputs.
image_is() { [ "$(podman image inspect --format '{{index .Config.Labels "inputs"}}' "$1" 2>/dev/null)" = "$2" ]; }

running() { [ "$(podman inspect --format '{{.State.Running}}' "$1" 2>/dev/null)" = true ]; }
