#!/bin/bash
# OpenSSH of other releases of Debian, each in a folder of its own for chroot: .lab/clients/NAME, by mmdebstrap; and
# trixie's Apache MINA SSHD, which older releases lack, for the machine's own Java: .lab/clients/java.
# What is there is kept. The tests of clients use their ssh, the benchmarks trixie's sshd.
. "$(dirname "$0")/environment.sh"
. "$LAB_SCRIPTS/mirror.sh"

bootstrap() { # SUITE ROOT VARIANT PACKAGES
    local suite=$1 root=$2 mirror options=() line
    mirror=$(mirror)
    [ -n "$mirror" ] || die "no Debian mirror is known to apt" "run 'apt-get update' with a Debian source in /etc/apt"
    while IFS= read -r line; do
        [ -z "$line" ] || options+=("--aptopt=$line")
    done < <(transport)
    rm -rf "$root.part"
    # A mirror's snapshot may be older than the lifetime its Release file states (forky says a week).
    mmdebstrap --format=directory --variant="$3" --include="$4" \
        --aptopt='Acquire::Check-Valid-Until "false"' "${options[@]}" "$suite" "$root.part" "$mirror"
    mv "$root.part" "$root"
}

mkdir -p "$LAB/clients"
for suite in "${@:-trixie}"; do
    root=$LAB/clients/$suite
    if [ -x "$root/usr/bin/ssh" ]; then
        say "OpenSSH of $suite: there"
    else
        logged "clients-$suite" "OpenSSH of $suite by mmdebstrap" bootstrap "$suite" "$root" minbase \
            openssh-client,openssh-server,openssh-sftp-server,libpam-modules
    fi
done
if [ -e "$LAB/clients/java/usr/share/java/sshd-core.jar" ]; then
    say "Apache MINA SSHD: there"
else
    logged clients-java "Apache MINA SSHD by mmdebstrap" bootstrap trixie "$LAB/clients/java" extract \
        libmina-sshd-java,libslf4j-java,libeddsa-java
fi
