"""What a kubelet does to a pod's volumes and probes, and podman 4.3 does not.

    kubelet.py empty-dirs FILE   before `podman play kube`: makes each emptyDir (in memory if so asked, open to all)
    kubelet.py without-probes FILE  prints the objects without liveness probes, which podman would do by systemd
    kubelet.py probes FILE POD   runs the commands of all probes once; exits with 0 if each did
    kubelet.py secrets FILE      after `podman play kube --start=false`: gives each Secret's files their content
                                 and mode (podman leaves base64 text that everybody may read)

FILE holds the objects given to podman. No containers are started or removed here.
"""

import base64
import os
import subprocess
import sys

import yaml


def podman(*arguments):
    return subprocess.run(["podman", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def mountpoint(volume):
    return podman("volume", "inspect", "--format", "{{.Mountpoint}}", volume)


def empty_dirs(pod):
    volumes = [v for v in pod["volumes"] if "emptyDir" in v]
    for volume in volumes:
        if volume["emptyDir"].get("medium") == "Memory":
            podman("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs",
                   "--opt", "o=mode=0777,nosuid,nodev", volume["name"])
        else:
            podman("volume", "create", volume["name"])
            os.chmod(mountpoint(volume["name"]), 0o777)
    # A volume takes owner, mode and content of the first folder that it is mounted over; a kubelet gives it
    # none of these. So its first place is one that the image does not have.
    mounts = [f"--volume={v['name']}:/first/{v['name']}" for v in volumes]
    podman("run", "--rm", "--network=none", *mounts, pod["containers"][0]["image"], "/bin/true")


def secrets(pod, objects):
    data = {o["metadata"]["name"]: o["data"] for o in objects if o["kind"] == "Secret"}
    for volume in pod["volumes"]:
        secret = volume.get("secret")
        if not secret:
            continue
        folder = mountpoint(secret["secretName"])
        for key, value in data[secret["secretName"]].items():
            path = os.path.join(folder, key)
            os.chmod(path, 0o600)
            with open(path, "wb") as file:
                file.write(base64.b64decode(value))
            os.chown(path, 0, 0)
            os.chmod(path, secret.get("defaultMode", 0o644))


def probes(pod, name):
    for container in pod["containers"]:
        for probe in ("readinessProbe", "livenessProbe"):
            command = container.get(probe, {}).get("exec", {}).get("command")
            if command:
                podman("exec", f"{name}-{container['name']}", *command)


def main():
    what, path, *more = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        objects = [o for o in yaml.safe_load_all(file) if o]
    pod = next(o for o in objects if o["kind"] == "Deployment")["spec"]["template"]["spec"]
    if what == "empty-dirs":
        empty_dirs(pod)
    elif what == "secrets":
        secrets(pod, objects)
    elif what == "without-probes":
        for container in pod["containers"]:
            container.pop("livenessProbe", None)
        yaml.safe_dump_all(objects, sys.stdout)
    elif what == "probes":
        try:
            probes(pod, *more)
        except subprocess.CalledProcessError as failed:
            sys.exit(failed.stderr)
    else:
        sys.exit(f"kubelet.py: no such step: '{what}'")


if __name__ == "__main__":
    main()
