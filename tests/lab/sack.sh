#!/bin/bash
# sackd-shim beside the real slurmctld, clients and (where the image has it) auth/jwt of one version, in namespaces of its
# own on this machine: no container, no port, nothing that the lab could notice. Prints `ok` or `not ok` for each case and
# ends with the number of those that failed.
#
#   tests/lab/sack.sh 24.11|26.05 [FOLDER OF THE PROGRAMS]      root; the lab's image localhost/slurm-login/slurm:VERSION,
#                                                               or another one, by SACKD_IMAGE without its tag
set -uo pipefail
version=${1:?version} programs=$(realpath "${2:-$(dirname "$0")/../../target/debug}")
if [ -z "${SACK_INSIDE:-}" ]; then
    export SLURM_VERSION=$version
    . "$(dirname "$0")/environment.sh"
    image=${SACKD_IMAGE:-$IMAGES/slurm}:$version
    lower=$(podman image mount "$image") || die "the image '$image' is missing" "tests/lab/lab up --slurm $version"
    work=$(mktemp -d)
    trap 'podman image unmount "$image" >/dev/null; rm -rf "$work"' EXIT
    # With the pid namespace ends everything that runs in it.
    SACK_INSIDE=$work LOWER=$lower timeout --kill-after=5 300 \
        unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$version" "$programs"
    exit $?
fi

work=$SACK_INSIDE root=$work/root passed=0 failed=0
chmod 0711 "$work"
mkdir -p "$root" "$work/upper" "$work/work" "$work/etc" "$work/jobs"
mount --make-rprivate /
mount -t tmpfs tmpfs "$work/upper" && mkdir "$work/upper/up" "$work/upper/wk"
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$work/upper/up,workdir=$work/upper/wk" "$root"
mount -t proc proc "$root/proc" && mount --bind /dev "$root/dev"
ip link set lo up
# Two machines: ctl1 is here, ctl2 behind a cable.
mount -t tmpfs tmpfs /run/netns 2>/dev/null || { mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns; }
ip netns add ctl2 && ip link add one type veth peer name two netns ctl2
ip addr add 10.9.0.1/24 dev one && ip link set one up
ip -n ctl2 addr add 10.9.0.2/24 dev two && ip -n ctl2 link set two up && ip -n ctl2 link set lo up
printf '127.0.0.1 localhost\n10.9.0.1 ctl1 node1 %s\n10.9.0.2 ctl2\n' "$(hostname)" >"$root/etc/hosts"
: >"$root/etc/resolv.conf"
sed -i 's/^hosts:.*/hosts: files/' "$root/etc/nsswitch.conf"
# The signer runs out here and knows alice; the controllers do not.
{ grep -v ':1001:\|:401:' /etc/passwd; echo 'alice:x:1001:100:Alice:/tmp:/bin/sh'; echo 'slurm:x:401:401::/:/bin/false'; } >"$work/etc/passwd"
mount --bind "$work/etc/passwd" /etc/passwd

mkdir -p "$root/etc/slurm" "$root/run/slurm" "$root/run/slurmctld"
chown 401:401 "$root/run/slurm" "$root/run/slurmctld" "$root/var/spool/slurmctld"
jwt=; [ ! -e "$(echo "$root"/usr/lib/*/slurm-wlm/auth_jwt.so)" ] || jwt=1
cat >"$root/etc/slurm/slurm.conf" <<C
ClusterName=lab
SlurmctldHost=ctl1
SlurmctldHost=ctl2
SlurmUser=slurm
AuthType=auth/slurm
CredType=cred/slurm
AuthInfo=use_client_ids
SlurmctldParameters=enable_configless
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldTimeout=6
SlurmdParameters=config_overrides
${jwt:+AuthAltTypes=auth/jwt}
${jwt:+AuthAltParameters=jwt_key=/etc/slurm/jwt.key,disable_token_creation}
Include extra.conf
NodeName=node1 Port=6819 CPUs=4 RealMemory=1024 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
C
echo CgroupPlugin=disabled >"$root/etc/slurm/cgroup.conf"
head -c 32 /dev/urandom >"$root/etc/slurm/jwt.key"
chown 401:401 "$root/etc/slurm/jwt.key" && chmod 0600 "$root/etc/slurm/jwt.key"
mark() { echo "# mark $1" >"$root/etc/slurm/extra.conf"; }
mark 1

# keys JSON...: the same slurm.jwks for the controllers and for us, each swapped in one step.
keys() {
    local file
    printf '{"keys":[%s]}' "$1" >"$work/etc/jwks"
    for file in "$root/etc/slurm/slurm.jwks" "$work/slurm.jwks"; do
        install -o 401 -g 401 -m 0600 "$work/etc/jwks" "$file.new" && mv "$file.new" "$file"
    done
}
key() { printf '{"alg":"HS256","kty":"oct","kid":"%s","k":"%s"%s}' "$@"; }
a=$(head -c 32 /dev/urandom | base64 -w0) b=$(head -c 32 /dev/urandom | base64 -w0) default=',"use":"default"'
keys "$(key a "$a" "$default")"

ctl1() { (cd / && exec unshare --uts sh -c "hostname ctl1; exec chroot --userspec=401:401 '$root' /usr/sbin/slurmctld -D") >>"$work/ctl1.log" 2>&1 & }
ctl2() { (cd / && exec ip netns exec ctl2 unshare --uts sh -c "hostname ctl2; exec chroot --userspec=401:401 '$root' /usr/sbin/slurmctld -D") >>"$work/ctl2.log" 2>&1 & }
cat >"$work/shim.toml" <<C
jwks-file = "$work/slurm.jwks"
run-dir = "$root/run/slurm"
conf-server = ["10.9.0.2:6817", "10.9.0.1:6817"]
slurm-user = "401"
refresh-interval = "30s"
rest = { max-lifetime = "10m" }
access = { deny = ["uid:1003"] }
C
cp "$programs/sackd-shim" "$programs/sackd-shim-config" "$work/"
slurm() { setpriv --reuid 401 --regid 401 --clear-groups "$@"; }
alice() { setpriv --reuid 1001 --regid 100 --clear-groups "$@"; }
client() { (cd / && chroot --userspec="$1:100" "$root" env SLURM_CONF=/run/slurm/conf/slurm.conf timeout 20 "${@:2}"); }
here() { grep -qs "mark $1" "$root/run/slurm/conf/extra.conf"; }
until_so() { local n=$1; shift; for _ in $(seq $((n * 20))); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done; return 1; }
check() { if "${@:2}"; then echo "ok $1"; passed=$((passed + 1)); else echo "not ok $1"; failed=$((failed + 1)); fi; }
refused() { ! "$@" >/dev/null 2>&1; }
fetched() { [ -e "$root/run/slurm/conf/slurm.conf" ]; }

# The real sackd first, in what it does as ours does.
ctl1
until_so 20 bash -c 'echo >/dev/tcp/10.9.0.1/6817'
(cd / && exec chroot --userspec=401:401 "$root" /usr/sbin/sackd -D --conf-server 10.9.0.1:6817) >"$work/sackd.log" 2>&1 &
sackd=$!
check "sackd: the configuration is fetched" until_so 60 fetched
check "sackd: sinfo works for a user whom the controller does not know" until_so 20 client 1001 sinfo
mark of-sackd
client 401 scontrol reconfigure
check "sackd: a push is seen" until_so 5 here of-sackd
kill $sackd
wait $sackd
pkill -x slurmctld
while pgrep -x slurmctld >/dev/null; do sleep 0.05; done
rm -rf "$root/run/slurm" && mkdir "$root/run/slurm" && chown 401:401 "$root/run/slurm"
mark 1

# Not by a function: its process would be bash's.
setpriv --reuid 401 --regid 401 --clear-groups "$work/sackd-shim" --config "$work/shim.toml" >"$work/shim.log" 2>&1 &
shim=$!
check "SACK is served while no controller is there" until_so 5 test -S "$root/run/slurm/sack.socket"
ctl1
until_so 20 bash -c 'echo >/dev/tcp/10.9.0.1/6817'
sleep 2
ctl2
check "the configuration is fetched from the controller that came up late" until_so 60 fetched
check "sinfo works for a user whom the controller does not know" until_so 20 client 1001 sinfo
check "a standby sends to the next controller" until_so 40 sh -c "kill -HUP $shim; sleep 1; grep -q 'controller in standby' '$work/shim.log'"
mark 2
client 401 scontrol reconfigure
check "a push is seen within a second after the command" until_so 1 here 2
checked=$(slurm "$work/sackd-shim" --config "$work/shim.toml" check 2>&1)
check "check: token, clock and registration" grep -q 'the clock of controller .* agrees' <<<"$checked"

# A compute node, with a /run/slurm of its own: its SACK socket is not to take the place of ours.
(cd / && exec unshare --uts --mount sh -c "hostname node1; mount -t tmpfs -o mode=755 tmpfs '$root/run/slurm'; exec chroot '$root' /usr/sbin/slurmd -D") >>"$work/node1.log" 2>&1 &
node=$!
login() { [ "$(client 1001 env SLURM_LOGIN_ID=0a1b2c3d srun --time 1 printenv SLURM_LOGIN_ID)" = 0a1b2c3d ]; }
idle() { [ "$(client 1001 sinfo --noheader --format %T)" = idle ]; }
until_so 10 idle
check "a job knows the login that submitted it" login
kill $node

printf '#!/bin/sh\nsleep 1\n' >"$root/tmp/job.sh"
chmod 0755 "$root/tmp/job.sh" && chmod 1777 "$root/tmp"
rotating() {
    while [ ! -e "$work/stop" ]; do
        if client 1001 sbatch -D /tmp -o /dev/null /tmp/job.sh >"$work/sbatch.out" 2>&1; then echo good; else echo bad; cat "$work/sbatch.out" >&2; fi
    done >"$work/sbatch.results"
}
rotating &
loop=$!
for set in "$(key a "$a" "$default"),$(key b "$b" '')" "$(key a "$a" ''),$(key b "$b" "$default")" "$(key b "$b" "$default")"; do
    keys "$set"
    client 401 scontrol reconfigure
    sleep 3
done
touch "$work/stop" && wait $loop
echo "# $(grep -c good "$work/sbatch.results") submitted"
check "no sbatch fails while the key is rotated" sh -c "grep -q good '$work/sbatch.results' && ! grep -q bad '$work/sbatch.results'"
check "the new key signs" grep -q 'kid="b"' "$work/shim.log"

cat >"$work/idle.py" <<'P'
import os, socket, sys, time
os.setgid(100); os.setuid(1002)
held = []
for _ in range(1000):
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); held.append(s)
open(sys.argv[2], "w").close()
time.sleep(20)
P
chmod 0644 "$work/idle.py" && chmod 0777 "$work/jobs"
python3 "$work/idle.py" "$root/run/slurm/sack.socket" "$work/jobs/held" &
until_so 10 test -e "$work/jobs/held"
check "1000 idle connections of one user, and another submits" client 1001 sbatch -D /tmp -o /dev/null /tmp/job.sh

# Of a bearer token: for how many more seconds it is good, and for whom.
token_says() {
    python3 -c 'import base64, json, sys, time
part = sys.argv[1].split("=", 1)[1].split(".")[1]
claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
print(int(claims["exp"] - time.time()), claims["sun"])' "$1"
}
# rest TOKEN: what slurmrestd says to a question that takes the user's rights.
rest() { curl --silent --max-time 20 --header "X-SLURM-USER-TOKEN: ${1#*=}" http://127.0.0.1:6820/slurm/v0.0.42/jobs/; }
asks() { alice "$work/sackd-shim" token --run-dir "$root/run/slurm" "$@"; }
if [ -n "$jwt" ]; then
    check "users cannot make tokens for slurmrestd by themselves" refused client 1001 scontrol token
    token=$(asks --lifespan 1h)
    check "a user gets a token for slurmrestd, though users may make none" client 1001 env "$token" squeue --noheader --user 1
    check "for no longer than the site allows" grep -q 'rest.made.*lifespan=600' "$work/shim.log"
    read -r left whose < <(token_says "$token")
    check "the token itself ends within the site's limit, and is the user's" test "$left" -le 600 -a "$left" -gt 500 -a "$whose" = alice
    read -r left _ < <(token_says "$(asks --lifespan 60s)")
    check "a shorter life is given as asked for" test "$left" -le 60 -a "$left" -gt 0
    read -r left _ < <(token_says "$(asks)")
    check "without a wish it is the site's limit" test "$left" -le 600 -a "$left" -gt 500
    check "who gets no SACK token gets none for slurmrestd" refused setpriv --reuid 1003 --regid 100 --clear-groups "$work/sackd-shim" token --run-dir "$root/run/slurm"
    if [ -x "$root/usr/sbin/slurmrestd" ]; then
        (cd / && exec chroot --userspec=1005:100 "$root" env SLURM_JWT=daemon SLURM_CONF=/etc/slurm/slurm.conf /usr/sbin/slurmrestd -s slurmctld -d v0.0.42 127.0.0.1:6820) >"$work/restd.log" 2>&1 &
        until_so 20 bash -c 'echo >/dev/tcp/127.0.0.1/6820'
        check "slurmrestd takes it" grep -q '"user_name": *"\(alice\|1001\)\?"' <<<"$(rest "$token" | tee "$work/rest.json")"
        changed=${token%?????}AAAAA
        check "and no other" grep -q 'Protocol authentication error' <<<"$(rest "$changed")"
    else
        echo "skipped: slurmrestd: this image has none"
    fi
else
    echo "skipped: tokens for slurmrestd: this image has no auth_jwt.so"
fi

# ends NAMESPACE: the controller of that machine, the hard way.
ends() {
    local pid
    for pid in $(pgrep -x slurmctld); do
        [ "$(readlink "/proc/$pid/ns/net")" != "$1" ] || kill -9 "$pid"
    done
}
# `scontrol reconfigure` does not make a standby read its keys again: it is started anew, as a site has to.
ends "$(ip netns exec ctl2 readlink /proc/self/ns/net)"
sleep 1
ctl2
until_so 20 ip netns exec ctl2 bash -c 'echo >/dev/tcp/10.9.0.2/6817'
sleep 2
ends "$(readlink /proc/self/ns/net)"
check "the backup takes over, clients go on" until_so 60 client 1001 sinfo
kill -HUP $shim
check "the configuration comes from the backup" until_so 30 grep -q '"controller":"10.9.0.2:6817"' "$root/run/slurm/.config-status.json"
mark 3
client 401 scontrol reconfigure
check "the backup's push is seen within a second" until_so 1 here 3
# The one that was killed comes back, and takes the cluster back.
ctl1
until_so 20 bash -c 'echo >/dev/tcp/10.9.0.1/6817'
# Not before the other one is a standby again: until then the first is busy with it.
standbys() { grep -c 'controller in standby' "$work/shim.log"; }
before=$(standbys)
back() { kill -HUP $shim; sleep 0.5; [ "$(standbys)" -gt "$before" ] && grep -q '"controller":"10.9.0.1:6817"' "$root/run/slurm/.config-status.json"; }
check "the configuration comes from the controller that was killed and started again" until_so 40 back
mark 4
client 401 scontrol reconfigure
check "its push is seen within a second" until_so 1 here 4
check "sinfo still works" client 1001 sinfo
kill $shim
wait $shim
check "SIGTERM ends it well" test $? -eq 0
[ $failed -eq 0 ] || { grep -v audit: "$work/shim.log" | tail -n 25; tail -n 5 "$work"/{ctl1,ctl2,node1,restd}.log; } >&2
# As cargo's suites count themselves.
echo "test result: $passed passed; $failed failed;"
exit $failed
