#!/usr/bin/env python3
"""Our gateway and OpenSSH's sshd of Debian trixie, in turn, on one machine.

    bench/gateway/run.py [--quick] [--programs target/release] [PART...]

PART: logins refusals bulk delay sftp keys idle; none: all. As root. Raw runs are kept in bench/results/gateway.json, the
printed medians and ratios, with the aim of each, in gateway.txt beside it. Parts that are named replace their results
and leave the others. Build first: cargo build --release --workspace
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
PARTS = ["logins", "refusals", "bulk", "delay", "sftp", "keys", "idle"]


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
        for name in ("host", "user", "wrong"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{keys}/{name}"], check=True)
        ours_sftp = "/run/bench/sftp-server" if (args.programs / "sftp-server").exists() else "/usr/lib/openssh/sftp-server"
        servers = [Server("ours", 2411, trixie, args.programs.resolve(), keys, ours_sftp),
                   Server("sshd", 2412, trixie, args.programs.resolve(), keys, "")]
        results = {"sshd": servers[1].version(), "quick": args.quick, "load": {}, "measured": {}}
        if args.parts and args.out.exists():
            old = json.loads(args.out.read_text())
            if (old["sshd"], old["quick"]) == (results["sshd"], args.quick):
                results = old
        args.out.parent.mkdir(parents=True, exist_ok=True)
        try:
            for part in args.parts or PARTS:
                measured = {}
                run(part, servers, args.quick, measured)
                results["measured"].update(measured)
                results["load"][part] = os.getloadavg()[0]
                args.out.write_text(json.dumps(results, indent=1) + "\n")
        finally:
            for server in servers:
                server.close()
    table = report(results)
    args.out.with_suffix(".txt").write_text(table)
    print(table, end="")


def run(part, servers, quick, measured):
    runs = 2 if quick else 3
    mib = 128 if quick else 256

    def note(what, which, value):
        measured.setdefault(what, {"ours": [], "sshd": []})[which].append(value)

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

    if "logins" == part:
        both("login ms", measures.login, 10 if quick else 50)
        both("logins 1 at a time", lambda s: measures.logins(s, 1, 20 if quick else 40), runs)
        both("logins 16 at a time", lambda s: measures.logins(s, 16, 48 if quick else 160), runs)
    if "refusals" == part:
        both("refusal ms, known name", lambda s: measures.refusal(s, "bench"), 5 if quick else 20)
        both("refusal ms, unknown name", lambda s: measures.refusal(s, "nobody-of-that-name"), 5 if quick else 20)
    if "bulk" == part:
        for name, cipher in CIPHERS.items():
            both(f"{name} down", lambda s: measures.down(s, cipher, mib))
            both(f"{name} up", lambda s: measures.up(s, cipher, mib))
    if "sftp" == part:
        for direction in ("get", "put"):
            both(f"sftp {direction}", lambda s: measures.sftp(s, direction, mib))
    if "delay" == part:
        lines = {server: Delay(server.port, 0.040) for server in servers}
        small = 64 if quick else 128
        cipher = CIPHERS["aes128-gcm"]
        both("40 ms up", lambda s: measures.up(s, cipher, small, lines[s].port))
        both("40 ms down", lambda s: measures.down(s, cipher, small, lines[s].port))
        for direction in ("put", "get"):
            both(f"40 ms sftp {direction}", lambda s: measures.sftp(s, direction, small, lines[s].port))
    if "keys" == part:
        for load in ("none", "down", "up"):
            for server in servers:
                for value in measures.keystrokes(server, load, 50 if quick else 200):
                    note(f"key ms, load {load}", server.which, value)
            print(f"  key, load {load}", file=sys.stderr)
    if "idle" == part:
        for server in servers:
            result = measures.idle(server, 32 if quick else 1000)
            for key, value in result.items():
                note(f"idle {key}", server.which, value)
    

#: What is wanted of ours divided by theirs: at most, or at least.
AIMS = {"login ms": ("at most", 0.5), "logins 1 at a time": ("at least", 2), "logins 16 at a time": ("at least", 2),
        "sftp get": ("at least", 1.5), "sftp put": ("at least", 1.5), "40 ms up": ("at least", 3),
        "40 ms sftp put": ("at least", 3), "idle kib": ("at most", 1)}
for _name in CIPHERS:
    AIMS[f"{_name} down"] = AIMS[f"{_name} up"] = ("at least", 1.5)


def report(results):
    """The table: medians, ratios, and whether the aims were held."""
    lines = [f"peer: {results['sshd']}" + ("; quick runs, not to be quoted" if results["quick"] else "")]
    busy = "  ".join(f"{part} {load:.1f}" for part, load in results["load"].items())
    lines += [f"load of the machine of {os.cpu_count()} cores after each part: {busy}", ""]
    lines.append(f"{'':28} {'ours':>10} {'sshd':>10} {'ratio':>7}  aim")
    for what, values in results["measured"].items():
        ours, sshd = (statistics.median(values[which]) for which in ("ours", "sshd"))
        ratio = ours / sshd if sshd else float("nan")
        aim = AIMS.get(what) or (("at most", 0.6) if what.endswith(" cpu") else None)
        verdict = ""
        if aim:
            held = ratio <= aim[1] if aim[0] == "at most" else ratio >= aim[1]
            verdict = f"{aim[0]} {aim[1]}: {'held' if held else 'MISSED'}"
        lines.append(f"{what:28} {ours:10.2f} {sshd:10.2f} {ratio:7.2f}  {verdict}".rstrip())
        if what.startswith("key ms"):
            high = [sorted(values[which])[int(len(values[which]) * 0.99)] for which in ("ours", "sshd")]
            lines.append(f"{'  99th of a hundred':28} {high[0]:10.2f} {high[1]:10.2f} {high[0] / high[1]:7.2f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
