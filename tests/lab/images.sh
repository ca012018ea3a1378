#!/bin/bash
# Builds the lab's images: Slurm's controller and node, the directory server, and the login image with the
# programs of this workspace. An image whose inputs did not change is kept.
#
#   images.sh [slurm] [directory] [login]
. "$(dirname "$0")/environment.sh"

programs=(
    login-gateway login-gateway-accept login-gateway-monitor login-gateway-net login-gateway-session sftp-server
    sackd-shim sackd-shim-config directoryd login-admin slurm-client
)
# What programs load, by the names that cargo gives them.
libraries=(libpam_directory.so libnss_directory.so)

build() {
    local image=$1 inputs=$2
    shift 2
    if image_is "$image" "$inputs"; then
        say "image ${image#"$IMAGES"/}: there"
        return
    fi
    logged "image-$(basename "$image" | tr : -)" "image ${image#"$IMAGES"/}" \
        podman build --isolation=chroot --network=host --layers --build-arg "INPUTS=$inputs" --tag "$image" "$@"
}

slurm_image() {
    build "$IMAGES/slurm:$SLURM_VERSION" "$SUITE-$(digest "$LAB_SCRIPTS/slurm/Containerfile")" \
        --build-arg "BASE=docker.io/library/debian:$SUITE-slim" "$LAB_SCRIPTS/slurm"
}

directory_image() {
    build "$IMAGES/directory:dev" "$(digest "$LAB_SCRIPTS/directory/Containerfile")" "$LAB_SCRIPTS/directory"
}

# The programs are compiled once, here, and handed to the image; its own build stage is for everybody else.
login_image() {
    local release=${CARGO_TARGET_DIR:-$REPO/target}/release program tag=dev
    [ "$SLURM_VERSION" = 24.11 ] || tag=dev-$SLURM_VERSION
    logged cargo-build "programs (cargo build --release)" \
        cargo build --manifest-path "$REPO/Cargo.toml" --release --locked --workspace
    # A workspace of its own: it is built without std, where a panic can only abort.
    logged cargo-build-nss "libnss_directory.so" \
        cargo build --manifest-path "$REPO/crates/nss-directory/Cargo.toml" --release --locked --target-dir "$(dirname "$release")"
    mkdir -p "$LAB/programs"
    for program in "${programs[@]}" "${libraries[@]}"; do
        [ -x "$release/$program" ] || die "the build left no '$program'" "is it a [[bin]] of the workspace?"
        cmp -s "$release/$program" "$LAB/programs/$program" || install -m 0755 "$release/$program" "$LAB/programs/$program"
    done
    local sources=()
    mapfile -t sources < <(find "$REPO/images/login" -type f | sort)
    build "$IMAGES/login:$tag" "$SUITE-$(digest "${sources[@]}" "${programs[@]/#/$LAB/programs/}" "${libraries[@]/#/$LAB/programs/}")" \
        --build-arg "BASE=docker.io/library/debian:$SUITE-slim" --build-arg BIN=prebuilt \
        --file "$REPO/images/login/Containerfile" --ignorefile "$REPO/images/login/containerignore" "$REPO"
    # The image that this one replaces has lost its name.
    podman image prune --force --filter label=org.opencontainers.image.title=slurm-login >/dev/null
}

[ $# -gt 0 ] || set -- slurm directory login
for what in "$@"; do
    case $what in
    slurm) slurm_image ;;
    directory) directory_image ;;
    login) login_image ;;
    *) die "no such image: '$what'" "slurm, directory, login" ;;
    esac
done
