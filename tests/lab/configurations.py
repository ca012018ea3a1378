"""Gives each container of each set-up in charts/login/ci what its pod would have, and runs its program's `check`.

    configurations.py IMAGE      prints a line for each container, `Ran N tests in` at the end, and fails if one does

The secrets are stand-ins of the right shape. There is no network, so a controller that does not answer is no
failure here.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "login"
PEOPLE = ROOT / "crates" / "directoryd" / "people.example.toml"


def stand_in(key, folder):
    """Writes a secret of the right shape for the key's name."""
    if key.startswith("ssh_host_"):
        kind = key.split("_")[2]
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", folder / key], check=True)
        (folder / f"{key}.pub").unlink()
    elif key.endswith((".pem", ".crt")):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-subj", "/CN=stand-in", "-keyout", folder / "tls.key" if key == "tls.crt" else "/dev/null",
                        "-out", folder / key],
                       check=True, capture_output=True)
    elif key == "people.toml":
        (folder / key).write_text(PEOPLE.read_text())
    else:
        (folder / key).write_bytes(bytes(range(256)) * 4)


def keys_of(values):
    directory = values["directory"]
    return {
        "slurm-key": [values["cluster"]["keySecret"].get("key", "slurm.key")],
        "bind-password": [directory.get("bindPasswordSecret", {}).get("key", "password")],
        "directory-client": ["tls.crt"],
        "people": [directory.get("file", {}).get("key", "people.toml")],
        "offline-secret": [directory.get("offlinePasswords", {}).get("key", "secret")],
        "host-keys": values["hostKeys"].get("keys", ["ssh_host_ed25519_key"]),
        "user-ca": [values.get("gateway", {}).get("userCA", {}).get("key", "user_ca.pub")],
        "directory-ca": [directory.get("ca", {}).get("key", "ca.pem")],
    }


def arguments(container, volumes, config_maps, keys, work):
    """The podman options that stand for the container's mounts and rights."""
    context = container["securityContext"]
    options = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges",
               f"--user={context['runAsUser']}:{context['runAsGroup']}", "--network=none"]
    options += [f"--cap-add={c}" for c in context["capabilities"].get("add", [])]
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "emptyDir" in volume or "persistentVolumeClaim" in volume or "hostPath" in volume:
            options.append(f"--tmpfs={mount['mountPath']}:mode=0777,notmpcopyup")
            continue
        folder = work / mount["name"]
        if not folder.exists():
            folder.mkdir(mode=0o755)
            for name, text in config_maps.get(volume.get("configMap", {}).get("name"), {}).items():
                (folder / name).write_text(text)
            for key in keys.get(mount["name"], []):
                stand_in(key, folder)
            for file in folder.iterdir():
                file.chmod(volume.get("secret", {}).get("defaultMode", 0o644))
        options.append(f"--volume={folder}:{mount['mountPath']}:ro")
    return options


def only_unreachable(output):
    """Says whether all that a check complains of is that the cluster is not there."""
    problems = [line for line in output.splitlines() if line.startswith("problem")]
    return bool(problems) and all(line.split()[1] == "controller" for line in problems)


def main():
    image = sys.argv[1]
    started, failed, ran = time.monotonic(), 0, 0
    for ci in sorted((CHART / "ci").glob("*.yaml")):
        rendered = subprocess.run(["helm", "template", "release", CHART, "--values", ci], check=True,
                                  capture_output=True, text=True).stdout
        objects = [o for o in yaml.safe_load_all(rendered) if o]
        pod = next(o for o in objects if o["kind"] == "Deployment")["spec"]["template"]["spec"]
        config_maps = {o["metadata"]["name"]: o["data"] for o in objects if o["kind"] == "ConfigMap"}
        volumes = {v["name"]: v for v in pod["volumes"]}
        with tempfile.TemporaryDirectory() as work:
            work = pathlib.Path(work)
            work.chmod(0o755)
            for container in pod["containers"]:
                program = {"gateway": "login-gateway", "sackd": "sackd-shim"}.get(container["name"], container["name"])
                done = subprocess.run(
                    ["podman", "run", "--rm",
                     *arguments(container, volumes, config_maps, keys_of(yaml.safe_load(ci.read_text())), work),
                     image, f"/usr/sbin/{program}", "check"], capture_output=True, text=True, check=False)
                ran += 1
                print(f"{ci.stem} {container['name']}: exit {done.returncode}")
                if done.returncode != 0 and not only_unreachable(done.stdout):
                    failed += 1
                    print(done.stdout + done.stderr)
    print(f"Ran {ran} tests in {time.monotonic() - started:.1f}s")
    if failed:
        sys.exit(f"FAILED (failures={failed})")


if __name__ == "__main__":
    main()
