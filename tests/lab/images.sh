#!/bin/bash
# Builds the lab's images: Slurm's controller and node, the directory server, and the login image with the
# programs of this workspace. An image whose inputs did not change is kept.
. "$(dirname "$0")/environment.sh"

build() {
    local image=$1 inputs=$2 context=$3
    shift 3
    if image_is "$image" "$inputs"; then
        say "image ${image#"$IMAGES"/}: there"
        return
    fi
    logged "image-$(basename "$image" | tr : -)" "image ${image#"$IMAGES"/}" \
        podman build --isolation=chroot --network=host --layers --build-arg "INPUTS=$inputs" "$@" --tag "$image" "$context"
}

slurm_image() {
    local version=$1 suite=$2 inputs
    inputs=$suite-$(digest "$LAB_SCRIPTS/slurm/Containerfile")
    build "$IMAGES/slurm:$version" "$inputs" "$LAB_SCRIPTS/slurm" \
        --build-arg "BASE=docker.io/library/debian:$suite-slim"
}

for what in "${@:-slurm}"; do
    case $what in
    slurm) slurm_image "$SLURM_VERSION" "$SUITE" ;;
    *) die "no such image: '$what'" ;;
    esac
done
