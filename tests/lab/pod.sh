#!/bin/bash
# The login pod: the chart rendered by helm, its Secrets made by kubectl, run by podman. Kept while neither
# the rendered objects nor the image changed.
. "$(dirname "$0")/environment.sh"

pod=$PREFIX-pod-0
rendered=$LAB/pod.yaml
tag=dev
[ "$SLURM_VERSION" = 24.11 ] || tag=dev-$SLURM_VERSION

host_key=$LAB/secrets/ssh_host_ed25519_key
[ -e "$host_key" ] || ssh-keygen -q -t ed25519 -N '' -C slurm-login-lab -f "$host_key"

from_file() {
    local kind=$1 name=$2 key=$3 file=$4
    echo ---
    kubectl create $kind "$name" --from-file="$key=$file" --dry-run=client --output yaml
}
{
    from_file "secret generic" $PREFIX-slurm-key slurm.key "$LAB/secrets/slurm.key"
    from_file "secret generic" $PREFIX-bind password "$LAB/directory/secret/reader-password"
    from_file "secret generic" $PREFIX-host-keys ssh_host_ed25519_key "$host_key"
    from_file configmap $PREFIX-ca ca.pem "$LAB/directory/tls/ca.pem"
    helm template $PREFIX "$REPO/charts/login" --values "$REPO/charts/login/ci/lab.yaml" \
        --set image.tag="$tag" --set hostPorts.ssh="$SSH_PORT" --set hostPorts.health="$HEALTH_PORT" \
        --set cluster.keySecret.name=$PREFIX-slurm-key --set directory.bindPasswordSecret.name=$PREFIX-bind \
        --set directory.ca.configMap=$PREFIX-ca --set directory.uris="{ldap://ldap:$LDAP_PORT}" \
        --set hostKeys.secretName=$PREFIX-host-keys --set home.existingClaim=$HOME_VOLUME
} >"$rendered.part"
chmod 0600 "$rendered.part"
mv "$rendered.part" "$rendered"

state=$(digest "$rendered" "$LAB/slurm.state" "$LAB_SCRIPTS/kubelet.py" "$LAB_SCRIPTS/pod.sh")-$(podman image inspect --format '{{.Id}}' "$IMAGES/login:$tag")
ready() { curl --silent --fail --max-time 2 "http://127.0.0.1:$HEALTH_PORT/readyz"; }

if [ "$(cat "$LAB/pod.state" 2>/dev/null)" = "$state" ] && ready >/dev/null; then
    say "login pod: running"
    exit 0
fi
rm -f "$LAB/pod.state"
LAB_LOCKED=yes "$LAB_SCRIPTS/lab" down pod

"$LAB/venv/bin/python" "$LAB_SCRIPTS/kubelet.py" empty-dirs "$rendered"
(umask 077 && "$LAB/venv/bin/python" "$LAB_SCRIPTS/kubelet.py" without-probes "$rendered" >"$rendered.play")
podman play kube --network $NETWORK --start=false "$rendered.play" >"$LAB/log/play-kube.log" 2>&1 || {
    cat "$LAB/log/play-kube.log" >&2
    die "podman refused the pod" "the objects are in $rendered"
}
"$LAB/venv/bin/python" "$LAB_SCRIPTS/kubelet.py" secrets "$rendered"
podman pod start $pod >>"$LAB/log/play-kube.log" 2>&1 || {
    cat "$LAB/log/play-kube.log" >&2
    die "the pod does not start"
}
# srun and salloc say where they are by their machine's name. While slurmctld looks for one that nobody knows, which it does
# ten times, their job's node is "completing" for more than a minute.
infra=$(podman pod inspect --format '{{.InfraContainerID}}' $pod)
address=$(podman inspect --format "{{(index .NetworkSettings.Networks \"$NETWORK\").IPAddress}}" "$infra")
for container in ctl node1; do
    podman exec $PREFIX-$container sh -c "grep -v ' $pod\$' /etc/hosts >/tmp/hosts; echo '$address $pod' >>/tmp/hosts; cat /tmp/hosts >/etc/hosts"
done
within 30 "login pod: ready" ready || {
    "$LAB_SCRIPTS/lab" logs pod 2>&1 | tail -n 40 >&2
    die "the login pod did not turn ready" "tests/lab/lab logs pod"
}
probed() { "$LAB/venv/bin/python" "$LAB_SCRIPTS/kubelet.py" probes "$rendered" $pod; }
within 60 "login pod: its probes succeed" probed || {
    "$LAB_SCRIPTS/lab" logs pod 2>&1 | tail -n 40 >&2
    die "a probe of the login pod fails" "tests/lab/kubelet.py probes $rendered $pod"
}
configured() { podman exec $pod-gateway test -s /run/slurm/conf/slurm.conf; }
within 60 "login pod: has the cluster's configuration" configured || {
    podman logs --tail 20 $pod-sackd >&2
    die "sackd has no configuration" "tests/lab/lab logs pod slurm"
}
echo "$state" >"$LAB/pod.state"
