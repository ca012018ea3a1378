#!/bin/sh
# Starts a real Samba as an Active Directory domain controller with a small domain, for tests.
#
#   start.sh DIR
#
# It runs in a network namespace of its own, since its ports are fixed: enter it with
# `nsenter --net=/proc/PID/ns/net`. DIR is filled on the first run and used again afterwards. It then holds:
#   secret/admin-password, secret/reader-password, secret/person-password   (mode 0640, no newline)
#   tls/ca.pem     the CA of its certificate, for 127.0.0.1 (StartTLS and ldaps)
#   domain-sid, samba.pid, samba.log
# People: see fill.py. Needs root; stop it with: kill "$(cat DIR/samba.pid)"
set -eu

here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 64; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
PATH=$PATH:/usr/sbin:/sbin
for program in samba samba-tool openssl unshare nsenter ip bash /usr/bin/python3; do
    command -v "$program" >/dev/null || { echo "$0: '$program' is not installed" >&2; exit 69; }
done
mkdir -p "$dir/secret" "$dir/tls" "$dir/log" "$dir/run"

if [ ! -e "$dir/tls/server.pem" ]; then
    (
        cd "$dir/tls"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
            -keyout ca.key -out ca.pem -subj "/CN=lab CA" -addext keyUsage=critical,keyCertSign
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
            -keyout server.key -out server.csr -subj "/CN=dc1.example.test"
        printf 'subjectAltName=DNS:dc1.example.test,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' >server.ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
            -days 3650 -extfile server.ext -out server.new
        mv server.new server.pem
        chmod 0600 server.key
    ) 2>"$dir/tls/openssl.log" || { cat "$dir/tls/openssl.log" >&2; exit 1; }
fi

# Capitals and digits, as the domain's rules want them.
secret() {
    [ -e "$dir/secret/$1" ] || (umask 027; printf 'Aa1-%s' "$(openssl rand -hex 12)" >"$dir/secret/$1")
}
secret admin-password
secret reader-password
secret person-password

if [ ! -e "$dir/filled" ]; then
    rm -rf "$dir/dc"
    samba-tool domain provision --realm=EXAMPLE.TEST --domain=EXAMPLE --server-role=dc --use-rfc2307 \
        --adminpass="$(cat "$dir/secret/admin-password")" --dns-backend=NONE --targetdir="$dir/dc" \
        --host-name=dc1 --host-ip=127.0.0.1 --option="bind interfaces only = yes" --option="interfaces = lo" \
        --option="server services = ldap" --option="log file = $dir/log/log.%m" \
        --option="pid directory = $dir/run" --option="ncalrpc dir = $dir/run/ncalrpc" \
        --option="tls cafile = $dir/tls/ca.pem" --option="tls certfile = $dir/tls/server.pem" \
        --option="tls keyfile = $dir/tls/server.key" >"$dir/provision.log" 2>&1 ||
        { tail -n 20 "$dir/provision.log" >&2; exit 1; }
    # The interpreter that Debian's bindings belong to.
    /usr/bin/python3 "$here/fill.py" "$dir" || exit 1
    : >"$dir/filled"
fi

unshare --net sh -c 'ip link set lo up && exec samba -F --no-process-group -s "$0"' "$dir/dc/etc/smb.conf" \
    >"$dir/samba.log" 2>&1 </dev/null &
samba=$!
echo "$samba" >"$dir/samba.pid"
tries=0
until nsenter --net="/proc/$samba/ns/net" bash -c ': </dev/tcp/127.0.0.1/636' 2>/dev/null; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ] || ! kill -0 "$samba" 2>/dev/null; then
        echo "$0: samba does not answer:" >&2
        cat "$dir/samba.log" "$dir"/log/* >&2
        kill "$samba" 2>/dev/null || :
        exit 1
    fi
    sleep 0.1
done
