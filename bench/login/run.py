#!/usr/bin/env python3
"""Logins through our gateway and through Debian's sshd with PAM, in turn, on one machine.

    bench/login/run.py [--runs 200] [--idle 20] [--bulk 5]

Both servers run in one container of the login image (with openssh-server added), serve the same local
account with the same authorized_keys file and the same ciphers, and are reached over the same path. Raw
runs are kept in bench/results/login.json; the last lines are medians and ratios.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = pathlib.Path(os.environ.get("LAB", ROOT / ".lab"))
IMAGE = "localhost/slurm-login/login:dev"
BENCH_IMAGE = "localhost/slurm-login/bench:dev"
NAME = "slurm-login-bench"
PORTS = {"ours": 2401, "sshd": 2402}
PROGRAMS = {"ours": "login-gateway", "sshd": "sshd"}

CONTAINERFILE = f"""
FROM {IMAGE}
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openssh-server \\
 && useradd --create-home --shell /bin/bash bench && mkdir -p /run/sshd
"""

START = """
set -eu
mkdir -p /etc/login-gateway/keys /home/bench/.ssh
cp /keys/host /etc/login-gateway/keys/ssh_host_ed25519_key; cp /keys/host /etc/ssh/bench_host_key
chmod 600 /etc/login-gateway/keys/ssh_host_ed25519_key /etc/ssh/bench_host_key
cp /keys/user.pub /home/bench/.ssh/authorized_keys
chown -R bench:bench /home/bench/.ssh; chmod 700 /home/bench/.ssh; chmod 600 /home/bench/.ssh/authorized_keys
cat > /etc/login-gateway/login-gateway.toml <<CONF
listen = ["0.0.0.0:2401"]
max-startups = 1000
CONF
/usr/sbin/sshd -D -e -p 2402 -h /etc/ssh/bench_host_key -o UsePAM=yes -o MaxStartups=1000 \
    -o PasswordAuthentication=no -o PrintMotd=no 2>/tmp/sshd.log &
echo $! > /tmp/sshd.pid
exec /usr/sbin/login-gateway 2>/tmp/gateway.log
"""


def podman(*args, **more):
    environment = dict(os.environ)
    if (LAB / "containers.conf").exists():
        environment.setdefault("CONTAINERS_CONF", str(LAB / "containers.conf"))
    return subprocess.run(["podman", *args], check=True, env=environment, text=True, **more)


def inside(script):
    return podman("exec", NAME, "bash", "-c", script, capture_output=True).stdout


def ssh(keys, which, *options):
    return [
        "ssh", "-F", "none", "-p", str(PORTS[which]), "-i", f"{keys}/user", "-o", "IdentitiesOnly=yes",
        "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={keys}/known",
        "-o", "LogLevel=ERROR", "-o", "KexAlgorithms=curve25519-sha256", *options, "bench@127.0.0.1",
    ]


def timed(command, **more):
    begin = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **more)
    return (time.perf_counter() - begin) * 1000, done.returncode


def processes(which):
    """Pid to private kilobytes of the server's processes, as this machine sees them: in the container not even
    root may look into a process that nobody may trace."""
    first = podman("inspect", "--format", "{{.State.Pid}}", NAME, capture_output=True).stdout.strip()
    namespace = os.readlink(f"/proc/{first}/ns/pid")
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            program = os.path.basename(os.readlink(folder / "exe"))
            if os.readlink(folder / "ns/pid") != namespace or not program.startswith(PROGRAMS[which]):
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        found[int(folder.name)] = sum(int(l.split()[1]) for l in lines if l.startswith("Private_"))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="logins of each")
    parser.add_argument("--idle", type=int, default=20, help="idle logins of each, for memory")
    parser.add_argument("--bulk", type=int, default=5, help="transfers of 256 MiB each way, of each")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as keys:
        os.chmod(keys, 0o755)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{keys}/{name}"], check=True)
        with tempfile.TemporaryDirectory() as context:
            containerfile = pathlib.Path(context, "Containerfile")
            containerfile.write_text(CONTAINERFILE)
            podman("build", "--isolation=chroot", "--network=host", "-q", "-t", BENCH_IMAGE, "-f", str(containerfile),
                   context, stdout=subprocess.DEVNULL)
        podman("rm", "--force", "--ignore", "--time", "2", NAME, stdout=subprocess.DEVNULL)
        podman("run", "--detach", "--name", NAME, "--network", "host", "--volume", f"{keys}:/keys:ro",
               "--cap-add", "AUDIT_WRITE", "--entrypoint", "/bin/sh", BENCH_IMAGE, "-c", START, stdout=subprocess.DEVNULL)
        try:
            results = measure(args, keys)
        finally:
            podman("rm", "--force", "--ignore", "--time", "2", NAME, stdout=subprocess.DEVNULL)
    out = ROOT / "bench/results/login.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    report(results)


def measure(args, keys):
    deadline = time.monotonic() + 30
    for which in PORTS:
        while timed([*ssh(keys, which), "true"], stderr=subprocess.DEVNULL)[1] != 0:
            if time.monotonic() > deadline:
                sys.exit(f"{which} does not serve: " + inside("tail -n 5 /tmp/*.log"))
            time.sleep(0.2)
    results = {"login_ms": {w: [] for w in PORTS}, "refusal_ms": {"known": [], "unknown": []},
               "idle": {}, "up_mib_s": {w: [] for w in PORTS}, "down_mib_s": {w: [] for w in PORTS}}
    for run in range(-5, args.runs):
        for which in PORTS:
            millis, code = timed([*ssh(keys, which), "true"])
            assert code == 0, which
            if run >= 0:
                results["login_ms"][which].append(millis)
        if run >= 0 and run % 50 == 49:
            print(f"  {run + 1} logins of each", file=sys.stderr)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{keys}/wrong"], check=True)
    for _ in range(min(args.runs, 40)):
        for name, user in (("known", "bench"), ("unknown", "nobody-of-that-name")):
            command = [a.replace("bench@", f"{user}@").replace(f"{keys}/user", f"{keys}/wrong") for a in ssh(keys, "ours")]
            results["refusal_ms"][name].append(timed([*command, "true"], stderr=subprocess.DEVNULL)[0])
    for which in PORTS:
        before = processes(which)
        idle = [subprocess.Popen([*ssh(keys, which), "echo x; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                for _ in range(args.idle)]
        for client in idle:
            client.stdout.read(2)
        after = processes(which)
        new = {pid: kb for pid, kb in after.items() if pid not in before}
        # Pairs that waited already have become logins; as many new ones wait in their place.
        grown = sum(after.values()) - sum(before.values())
        results["idle"][which] = {"logins": args.idle, "processes": (len(after) - len(before)) / args.idle,
                                  "private_kib": grown / args.idle, "new": new}
        for client in idle:
            client.stdin.close()
            client.wait()
    size = 256
    for _ in range(args.bulk):
        for which in PORTS:
            for cipher in ("aes256-gcm@openssh.com",):
                millis, _ = timed([*ssh(keys, which, "-c", cipher), f"head -c {size}M /dev/zero"])
                results["down_mib_s"][which].append(size / millis * 1000)
                with open("/dev/zero", "rb") as zero:
                    begin = time.perf_counter()
                    head = subprocess.Popen(["head", "-c", f"{size}M"], stdin=zero, stdout=subprocess.PIPE)
                    subprocess.run([*ssh(keys, which, "-c", cipher), "cat >/dev/null"], stdin=head.stdout, check=True)
                    results["up_mib_s"][which].append(size / (time.perf_counter() - begin))
    return results


def report(results):
    median = statistics.median

    def line(what, ours, sshd, unit, better):
        ratio = ours / sshd
        print(f"{what}: ours {ours:.1f} {unit}, sshd {sshd:.1f} {unit}, ratio {ratio:.2f} ({better} is better)")

    login = results["login_ms"]
    line(f"login, median of {len(login['ours'])}", median(login["ours"]), median(login["sshd"]), "ms", "lower")
    for direction in ("down", "up"):
        runs = results[f"{direction}_mib_s"]
        if runs["ours"]:
            line(f"256 MiB {direction}, median of {len(runs['ours'])}", median(runs["ours"]), median(runs["sshd"]),
                 "MiB/s", "higher")
    idle = results["idle"]
    line("private memory of an idle login", idle["ours"]["private_kib"], idle["sshd"]["private_kib"], "KiB", "lower")
    line("server processes of an idle login", idle["ours"]["processes"], idle["sshd"]["processes"], "", "lower")
    refusal = results["refusal_ms"]
    print(f"refusal of a bad key: known name {median(refusal['known']):.1f} ms, unknown name "
          f"{median(refusal['unknown']):.1f} ms")


if __name__ == "__main__":
    main()
