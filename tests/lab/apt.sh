#!/bin/bash
# Installs the Debian packages that the lab and the tests run with, and nothing when they are there.
# It never removes or upgrades a package.
. "$(dirname "$0")/environment.sh"

packages=(
    # containers
    podman runc catatonit netavark aardvark-dns iptables fuse-overlayfs uidmap mmdebstrap debian-archive-keyring
    # the build: PAM headers for the monitor's room
    build-essential pkg-config libpam0g-dev
    # peers and clients of the tests
    slapd ldap-utils pamtester samba samba-ad-dc samba-ad-provision samba-dsdb-modules samba-vfs-modules libsss-idmap0 openssh-client openssh-server openssh-sftp-server haproxy libpam-oath oathtool
    # OpenSSH's own tests, and what they and ours call
    openssh-tests sudo xauth rsync procps iproute2 tmux btrfs-progs
    # other clients
    dropbear-bin putty-tools sshfs fuse3 rclone lftp ansible-core mosh ssh-audit golang-go golang-golang-x-crypto-dev libjsch-java
    # tools that come from PyPI stand in a venv
    python3-venv ca-certificates curl git openssl
)
# node may come from elsewhere, with an npm of its own.
command -v npm >/dev/null || packages+=(nodejs npm)
# So may Java.
command -v javac >/dev/null || packages+=(default-jdk-headless)

missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    say "Debian packages: all there"
    exit 0
fi

[ -e /etc/debian_version ] || die "this is not Debian" "install the equivalents of: ${missing[*]}"
[ "$(id -u)" -eq 0 ] || die "packages are missing: ${missing[*]}" "run 'apt-get install ${missing[*]}' as root, then again"

export DEBIAN_FRONTEND=noninteractive
# A package that starts a service on installation (slapd, ssh) must not: the lab runs its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
install() {
    logged apt-update "package lists" apt-get update
    "$@" apt-install "Debian packages: ${missing[*]}" apt-get install -y --no-install-recommends "${missing[@]}"
}
# A mirror may hiccup once.
install attempt || install logged
