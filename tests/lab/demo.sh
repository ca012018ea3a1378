#!/bin/bash
# The demo: an administrator creates alice, alice logs in with her own key and runs jobs. It needs a running
# lab, uses nothing but what people use (login-admin, ssh), and can be run again on the same lab.
. "$(dirname "$0")/environment.sh"

person=alice
key=$LAB/alice/id_ed25519
mkdir -p "$LAB/alice"
[ -e "$key" ] || ssh-keygen -q -t ed25519 -N '' -C "$person" -f "$key"

show() {
    printf '\n\033[1m$ %s\033[0m\n' "$*"
    "$@"
}

# --- the administrator's side -------------------------------------------------------------------------------
umask 077
install -m 0600 "$LAB/directory/secret/admin-password" "$LAB/secrets/directory-admin"
cat >"$LAB/login-admin.toml" <<CONF
uri = "ldap://127.0.0.1:$LDAP_PORT"
start-tls = true
ca-file = "$LAB/directory/tls/ca.pem"
bind-dn = "cn=admin,$SUFFIX"
bind-password-file = "$LAB/secrets/directory-admin"
base = "$SUFFIX"
user-base = "ou=people,$SUFFIX"
group-base = "ou=groups,$SUFFIX"
schema = "rfc2307bis"
home = "/home/{user}"
shell = "/bin/bash"
id-counter = "cn=ids,$SUFFIX"
id-range = [2000, 59999]
CONF
umask 022
login_admin() { "$LAB/programs/login-admin" --config "$LAB/login-admin.toml" "$@"; }
admin() {
    printf '\n\033[1m# login-admin %s\033[0m\n' "$*"
    login_admin "$@"
}

if login_admin user show $person >/dev/null 2>&1; then
    say "$person is in the directory already"
else
    admin user add $person --gecos "Alice Example"
fi
login_admin key list $person | grep -qF "$(ssh-keygen -lf "$key.pub" | awk '{ print $2 }')" ||
    admin key add $person "$key.pub"
login_admin group show physics >/dev/null 2>&1 || admin group add physics
login_admin group show physics | grep -qw $person || admin group member add physics $person
admin user show $person

# --- alice's side -------------------------------------------------------------------------------------------
known=$LAB/alice/known_hosts
echo "[127.0.0.1]:$SSH_PORT $(cut -d' ' -f 1,2 "$LAB/secrets/ssh_host_ed25519_key.pub")" >"$known"
as_alice() {
    ssh -F none -p "$SSH_PORT" -i "$key" -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes \
        -o UserKnownHostsFile="$known" -o ConnectTimeout=10 "$person@127.0.0.1" "$@"
}
alice() {
    printf '\n\033[1malice$ %s\033[0m\n' "$*"
    as_alice "$@"
}

# Her key counts as soon as the directory's replica has it.
within 40 "$person can log in" as_alice true || {
    as_alice true || true
    die "$person cannot log in" "tests/lab/lab logs pod"
}
# A group that is as new as she is comes with the replica's next round.
named() { [ "$(as_alice id -gn)" = $person ]; }
within 40 "her group has its name" named || die "group of $person has no name" "tests/lab/lab logs pod"
alice id
alice 'pwd; ls -la ~'
alice sinfo
printf '#!/bin/bash\necho "job $SLURM_JOB_ID: uid $(id -u) on $(hostname) in $PWD"\n' | as_alice 'cat > job.sh'
alice 'sbatch --wait --output job.out job.sh && cat job.out'
alice srun hostname
alice squeue

# What was shown must also be right.
uid=$(as_alice id -u)
[ "$(as_alice 'awk "{ print \$4 }" job.out | sort -u')" = "$uid" ] || die "the job did not run with $person's uid $uid"
[ "$(as_alice srun hostname)" = node1 ] || die "srun did not run on node1"
[ "$(as_alice 'stat -c "%U %a" .')" = "$person 700" ] || die "$person's home is not hers alone"
! podman exec $PREFIX-node1 getent passwd $person >/dev/null || die "node1 was not supposed to know $person"

cat <<HOW

It is all running. To get in:

  ssh -p $SSH_PORT -i $key -o UserKnownHostsFile=$known $person@127.0.0.1

  tests/lab/lab status     what runs        tests/lab/lab logs      what it wrote
  make demo-down           remove it
HOW
