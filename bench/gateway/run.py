#!/usr/bin/env python3
"""Our gateway and OpenSSH's sshd of Debian trixie, in turn, on one machine.

    bench/gateway/run.py [--quick] [--programs target/release] [PART...]

PART: logins bulk delay sftp keys idle; none: all. As root. Raw runs are kept in bench/results/gateway.json; the last
lines are medians and ratios, with the aim of each. Build first: cargo build --release --workspace
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import measures
from delay import Delay
from servers import Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = pathlib.Path(os.environ.get("LAB", ROOT / ".lab"))
CIPHERS = {"aes128-gcm": "aes128-gcm@openssh.com", "aes256-gcm": "aes256-gcm@openssh.com",
           "chacha20": "chacha20-poly1305@openssh.com"}
PARTS = ["logins", "bulk", "delay", "sftp", "keys", "idle"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few and short runs, to see that it works")
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target/release")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/results/gateway.json")
    parser.add_argument("parts", nargs="*", metavar="PART", help=" ".join(PARTS))
    args = parser.parse_args()
    if set(args.parts) - set(PARTS):
        parser.error("a PART is one of: " + " ".join(PARTS))
    trixie = LAB / "clients/trixie"
    if not (trixie / "usr/sbin/sshd").exists():
        subprocess.run([ROOT / "tests/lab/clients.sh", "trixie"], check=True)
    with tempfile.TemporaryDirectory() as keys:
        os.chmod(keys, 0o755)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{keys}/{name}"], check=True)
        ours_sftp = "/run/bench/sftp-server" if (args.programs / "sftp-server").exists() else "/usr/lib/openssh/sftp-server"
        servers = [Server("ours", 2411, trixie, args.programs.resolve(), keys, ours_sftp),
                   Server("sshd", 2412, trixie, args.programs.resolve(), keys, "")]
        try:
            results = run(servers, args)
        finally:
            for server in servers:
                server.close()
    results["sshd"] = results.pop("version")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    report(results)


def run(servers, args):
    parts = args.parts or PARTS
    runs = 2 if args.quick else 5
    mib = 128 if args.quick else 512
    results = {"version": servers[1].version(), "quick": args.quick, "measured": {}}

    def note(what, which, value):
        results["measured"].setdefault(what, {"ours": [], "sshd": []})[which].append(value)

    def both(what, measure, times=runs):
        """In turn, the first of each unmeasured; a pair is a number and the server's processor time."""
        for turn in range(-1, times):
            for server in servers:
                value = measure(server)
                if turn < 0:
                    continue
                if isinstance(value, tuple):
                    note(what, server.which, value[0])
                    note(what + " cpu", server.which, value[1])
                else:
                    note(what, server.which, value)
        print(f"  {what}", file=sys.stderr)

    if "logins" in parts:
        both("login ms", measures.login, 10 if args.quick else 100)
        both("logins 1 at a time", lambda s: measures.logins(s, 1, 20 if args.quick else 60), runs)
        both("logins 16 at a time", lambda s: measures.logins(s, 16, 48 if args.quick else 320), runs)
    if "bulk" in parts:
        for name, cipher in CIPHERS.items():
            both(f"{name} down", lambda s: measures.down(s, cipher, mib))
            both(f"{name} up", lambda s: measures.up(s, cipher, mib))
    if "sftp" in parts:
        for direction in ("get", "put"):
            both(f"sftp {direction}", lambda s: measures.sftp(s, direction, mib))
    if "delay" in parts:
        lines = {server: Delay(server.port, 0.040) for server in servers}
        small = 64 if args.quick else 256
        cipher = CIPHERS["aes128-gcm"]
        both("40 ms up", lambda s: measures.up(s, cipher, small, lines[s].port))
        both("40 ms down", lambda s: measures.down(s, cipher, small, lines[s].port))
        for direction in ("put", "get"):
            both(f"40 ms sftp {direction}", lambda s: measures.sftp(s, direction, small, lines[s].port))
    if "keys" in parts:
        for load in ("none", "down", "up"):
            for server in servers:
                for value in measures.keystrokes(server, load, 50 if args.quick else 400):
                    note(f"key ms, load {load}", server.which, value)
            print(f"  key, load {load}", file=sys.stderr)
    if "idle" in parts:
        for server in servers:
            result = measures.idle(server, 32 if args.quick else 1000)
            for key, value in result.items():
                note(f"idle {key}", server.which, value)
        print("  idle", file=sys.stderr)
    return results


#: What is wanted of ours divided by theirs: at most, or at least.
AIMS = {"login ms": ("at most", 0.5), "logins 1 at a time": ("at least", 2), "logins 16 at a time": ("at least", 2),
        "sftp get": ("at least", 1.5), "sftp put": ("at least", 1.5), "40 ms up": ("at least", 3),
        "40 ms sftp put": ("at least", 3), "idle private_kib": ("at most", 1)}
for _name in CIPHERS:
    AIMS[f"{_name} down"] = AIMS[f"{_name} up"] = ("at least", 1.5)


def report(results):
    print(f"peer: {results['sshd']}" + ("; quick runs, not to be quoted" if results["quick"] else ""))
    print(f"{'':28} {'ours':>10} {'sshd':>10} {'ratio':>7}  aim")
    for what, values in results["measured"].items():
        ours, sshd = (statistics.median(values[which]) for which in ("ours", "sshd"))
        ratio = ours / sshd if sshd else float("nan")
        aim = AIMS.get(what) or (("at most", 0.6) if what.endswith(" cpu") else None)
        verdict = ""
        if aim:
            held = ratio <= aim[1] if aim[0] == "at most" else ratio >= aim[1]
            verdict = f"{aim[0]} {aim[1]}: {'held' if held else 'MISSED'}"
        print(f"{what:28} {ours:10.2f} {sshd:10.2f} {ratio:7.2f}  {verdict}")
        if what.startswith("key ms"):
            high = [sorted(values[which])[int(len(values[which]) * 0.99)] for which in ("ours", "sshd")]
            print(f"{'  99th of a hundred':28} {high[0]:10.2f} {high[1]:10.2f} {high[0] / high[1]:7.2f}")


if __name__ == "__main__":
    main()
