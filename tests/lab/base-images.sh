#!/bin/bash
# Makes the base images that a Containerfile names, for a machine that can pull none: mmdebstrap from the
# host's own Debian mirror, imported under the public name. An image that is there, pulled or made, is kept.
. "$(dirname "$0")/environment.sh"

. "$LAB_SCRIPTS/mirror.sh"

bootstrap() {
    local suite=$1 archive=$2 mirror options=() line
    mirror=$(mirror)
    [ -n "$mirror" ] || die "no Debian mirror is known to apt" "run 'apt-get update' with a Debian source in /etc/apt"
    while IFS= read -r line; do
        [ -z "$line" ] || options+=("--aptopt=$line")
    done < <(transport)
    # A mirror's snapshot may be older than the lifetime its Release file states (forky says a week).
    logged "base-$suite" "base image $suite by mmdebstrap" \
        mmdebstrap --format=tar --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' "${options[@]}" \
        "$suite" "$archive.part" "$mirror"
    mv "$archive.part" "$archive"
}

for suite in "${@:-trixie}"; do
    name=docker.io/library/debian:$suite-slim
    if podman image exists "$name"; then
        say "base image $suite: there"
        continue
    fi
    archive=$LAB/$suite.tar
    [ -e "$archive" ] || bootstrap "$suite" "$archive"
    # The settings that the public image carries as well.
    logged "import-$suite" "base image $suite as $name" podman import \
        --change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" --change "CMD bash" "$archive" "$name"
done
