#!/bin/bash
# The peers, from Debian's packages, unpacked and run by hand, so that nothing of the machine changes:
# sssd with libnss-sss, nslcd with libnss-ldapd, and nscd in front of the latter.
#
#   peers.sh unpack DIR PEER          fetch PEER's packages and unpack them below DIR
#   peers.sh run DIR PEER COMMAND..   run COMMAND where PEER serves "passwd: files" and its own (a mount namespace)
#
# DIR/etc has what the peer's /etc has besides the machine's, its configuration among them.
set -euo pipefail

dir=$2 peer=$3
case $peer in
sssd) packages=(sssd-ldap libnss-sss libpam-sss) service=sss ;;
nslcd) packages=(nslcd libnss-ldapd) service=ldap ;;
nscd) packages=(nslcd libnss-ldapd nscd) service=ldap ;;
*) echo "peers.sh: no peer '$peer'" >&2; exit 2 ;;
esac
case $1 in
unpack)
    mkdir -p "$dir/debs" "$dir/root" "$dir/etc"
    cd "$dir/debs"
    mapfile -t needed < <(apt-get install -qq --no-install-recommends --reinstall --print-uris \
        "${packages[@]}" 2>/dev/null | awk '{print $2}' | sed 's/_.*//')
    [ ${#needed[@]} -gt 0 ]
    apt-get download -qq "${needed[@]}" 2>/dev/null
    for package in *.deb; do dpkg-deb -x "$package" "$dir/root"; done
    # /lib is /usr/lib here.
    [ ! -d "$dir/root/lib" ] || cp -a "$dir/root/lib/." "$dir/root/usr/lib/"
    sed -E "s/^(passwd|group):.*/\1: files $service/" /etc/nsswitch.conf >"$dir/etc/nsswitch.conf"
    [ $peer != nscd ] || cp "$dir/root/etc/nscd.conf" "$dir/etc/"
    ;;
run)
    shift 3
    exec unshare -m bash -c '
        set -e
        dir=$1 peer=$2
        shift 2
        mount -t overlay overlay -o "lowerdir=$dir/root/usr:/usr" /usr
        mount -t overlay overlay -o "lowerdir=$dir/etc:/etc" /etc
        for folder in /var/lib /var/log /var/cache /run; do mount -t tmpfs tmpfs $folder; done
        mkdir -p /var/log/sssd /var/lib/sss/{db,deskprofile,gpo_cache,keytabs,mc,secrets} \
            /var/lib/sss/pipes/private /var/lib/sss/pubconf/krb5.include.d /run/nslcd /run/nscd /var/cache/nscd
        pids=()
        trap "kill \"\${pids[@]}\" 2>/dev/null; wait" EXIT
        served() {
            for try in {1..600}; do
                getent passwd bob >/dev/null && return
                sleep 0.1
            done
            cat "$dir/log" >&2
            exit 1
        }
        case $peer in
        sssd) sssd -i -c "$dir/sssd.conf" >"$dir/log" 2>&1 & ;;
        *) nslcd -n >"$dir/log" 2>&1 & ;;
        esac
        pids+=($!)
        served
        if [ $peer = nscd ]; then
            nscd -F >>"$dir/log" 2>&1 &
            pids+=($!)
            until [ -S /run/nscd/socket ]; do sleep 0.1; done
            served
        fi
        "$@"
    ' bash "$dir" "$peer" "$@"
    ;;
esac
