#!/bin/bash
# The Slurm cluster: a controller and one compute node on the lab's network. The node shares the homes with
# the login pod and knows nothing of its people. Started once; kept while its version and files are the same.
. "$(dirname "$0")/environment.sh"

key=$LAB/secrets/slurm.key
if [ ! -s "$key" ]; then
    head -c 1024 /dev/urandom >"$key.part"
    chmod 0600 "$key.part"
    mv "$key.part" "$key"
    say "slurm.key made"
fi

state=$SLURM_VERSION-$(digest "$LAB_SCRIPTS/slurm/slurm.conf" "$LAB_SCRIPTS/slurm/cgroup.conf" "$REPO/docs/slurm/cli_filter.lua" "$key" "$LAB_SCRIPTS/slurm.sh")
if running $PREFIX-ctl && running $PREFIX-node1 && [ "$(cat "$LAB/slurm.state" 2>/dev/null)" = "$state" ]; then
    say "Slurm $SLURM_VERSION: running"
    exit 0
fi
rm -f "$LAB/slurm.state"
podman rm --force --time 2 --ignore $PREFIX-node1 $PREFIX-ctl >/dev/null

podman network exists $NETWORK || podman network create $NETWORK >/dev/null
podman volume exists $HOME_VOLUME || podman volume create $HOME_VOLUME >/dev/null

# Files are copied in rather than mounted, so that each has the owner and mode that Slurm insists on.
place() {
    local container=$1 source=$2 target=$3 owner=$4 mode=$5
    podman cp "$source" "$container:$target"
    podman exec "$container" sh -c "chown $owner '$target' && chmod $mode '$target'"
}

# Both machines have their names before a daemon starts: slurmctld looks its nodes up once.
podman run --detach --init --name $PREFIX-node1 --hostname node1 --network $NETWORK --network-alias node1 \
    --volume $HOME_VOLUME:/home "$IMAGES/slurm:$SLURM_VERSION" sleep infinity >/dev/null
podman run --detach --init --name $PREFIX-ctl --hostname ctl --network $NETWORK --network-alias ctl \
    "$IMAGES/slurm:$SLURM_VERSION" sleep infinity >/dev/null

# The two know each other from /etc/hosts and ask no name server (the image says so): slurmctld looks up the name
# behind each address that connects, and serves nobody while podman's name server keeps it waiting.
for name in ctl node1; do
    address=$(podman inspect --format "{{(index .NetworkSettings.Networks \"$NETWORK\").IPAddress}}" $PREFIX-$name)
    for container in ctl node1; do podman exec $PREFIX-$container sh -c "echo '$address $name' >>/etc/hosts"; done
done

place $PREFIX-ctl "$LAB_SCRIPTS/slurm/slurm.conf" /etc/slurm/slurm.conf root:root 0644
place $PREFIX-ctl "$LAB_SCRIPTS/slurm/cgroup.conf" /etc/slurm/cgroup.conf root:root 0644
place $PREFIX-ctl "$REPO/docs/slurm/cli_filter.lua" /etc/slurm/cli_filter.lua root:root 0644
place $PREFIX-ctl "$key" /etc/slurm/slurm.key slurm:slurm 0600
place $PREFIX-node1 "$key" /etc/slurm/slurm.key slurm:slurm 0600
podman exec --detach --user slurm $PREFIX-ctl sh -c 'exec slurmctld -D >>/var/spool/slurmctld/slurmctld.log 2>&1' >/dev/null
podman exec --detach $PREFIX-node1 sh -c 'exec slurmd -D --conf-server ctl:6817 >>/var/log/slurmd.log 2>&1' >/dev/null

idle() { [ "$(podman exec $PREFIX-ctl sinfo --noheader --format %T)" = idle ]; }
within 60 "Slurm $SLURM_VERSION: node1 is idle" idle || {
    podman exec $PREFIX-ctl tail -n 20 /var/spool/slurmctld/slurmctld.log >&2 || true
    podman exec $PREFIX-node1 tail -n 20 /var/log/slurmd.log >&2 || true
    die "the Slurm cluster did not come up" "tests/lab/lab logs slurm"
}
echo "$state" >"$LAB/slurm.state"
