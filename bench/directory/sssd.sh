#!/bin/bash
# The peer: sssd from Debian's packages, unpacked and run by hand, so that nothing of the machine changes.
#
#   sssd.sh unpack DIR          fetch the packages and unpack them below DIR
#   sssd.sh run DIR COMMAND..   run COMMAND where sssd serves "passwd: files sss" (a mount namespace)
#
# DIR/sssd.conf is sssd's configuration.
set -euo pipefail

dir=$2
case $1 in
unpack)
    mkdir -p "$dir/debs" "$dir/root"
    cd "$dir/debs"
    mapfile -t packages < <(apt-get install -qq --no-install-recommends --reinstall --print-uris \
        sssd-ldap libnss-sss 2>/dev/null | awk '{print $2}' | sed 's/_.*//')
    [ ${#packages[@]} -gt 0 ]
    apt-get download -qq "${packages[@]}" 2>/dev/null
    for package in *.deb; do dpkg-deb -x "$package" "$dir/root"; done
    # /lib is /usr/lib here.
    cp -a "$dir/root/lib/." "$dir/root/usr/lib/"
    sed -E 's/^(passwd|group):.*/\1: files sss/' /etc/nsswitch.conf >"$dir/nsswitch.conf"
    ;;
run)
    shift 2
    exec unshare -m bash -c '
        set -e
        dir=$1
        shift
        mount -t overlay overlay -o "lowerdir=$dir/root/usr:/usr" /usr
        mount --bind "$dir/nsswitch.conf" /etc/nsswitch.conf
        for folder in /var/lib /var/log /run; do mount -t tmpfs tmpfs $folder; done
        mkdir -p /var/log/sssd /var/lib/sss/{db,deskprofile,gpo_cache,keytabs,mc,secrets} \
            /var/lib/sss/pipes/private /var/lib/sss/pubconf/krb5.include.d
        sssd -i -c "$dir/sssd.conf" >"$dir/sssd.log" 2>&1 &
        trap "kill $! 2>/dev/null; wait" EXIT
        for try in {1..100}; do
            getent passwd bob >/dev/null && break
            [ $try -lt 100 ] || { cat "$dir/sssd.log" >&2; exit 1; }
            sleep 0.1
        done
        "$@"
    ' bash "$dir" "$@"
    ;;
esac
