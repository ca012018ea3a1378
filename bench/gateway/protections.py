#!/usr/bin/env python3
"""What each protection of the gateway costs: the same gateway with it and without it, in turn.

    bench/gateway/protections.py [--quick] [--programs target/release]

As root. Raw runs are kept in bench/results/protections.json, medians and ratios in protections.txt beside it. Build
first: cargo build --release --workspace
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import measures
from servers import Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = pathlib.Path(os.environ.get("LAB", ROOT / ".lab"))

#: The protection; the configuration without it, and with it.
PAIRS = {
    "penalties": ('penalties = { enabled = false }', 'penalties = { exempt = [], no-auth = "1s" }'),
    "early drop": ("", 'early-drop = { start = 1000, rate = 30 }'),
    "limits by source and user": ("per-source-max-startups = 0", "per-source-max-startups = 100\nmax-logins = 100"),
    "terminals recorded": ("", 'recordings = "/var/log/recordings"\nrecord-terminals = true'),
    "sftp on the record": ("", "record-sftp = true"),
    "login records": ("login-records = false", "login-records = true"),
    "accounts looked at again": ('account-interval = "1h"', 'account-interval = "1s"'),
    "sandbox and start of net at each login": ("warm = 2", "warm = 0"),
}
#: The same by what is logged.
AUDIT = "audit"
PROXY = "PROXY header, by haproxy"


def terminal_login(server):
    """Milliseconds of a login with a terminal."""
    return measures.timed([*server.ssh("-tt"), "true"], stderr=subprocess.DEVNULL) * 1000


def screen(server, mib=16):
    """MiB a second that a terminal shows."""
    return mib / measures.timed([*server.ssh("-tt"), f"stty raw; head -c {mib}M /dev/zero | tr '\\0' x"], stderr=subprocess.DEVNULL)


def balanced(server, port):
    """Milliseconds of a login through haproxy."""
    command = [*server.ssh(port=port), "true"]
    return measures.timed(command) * 1000


class Haproxy:
    """A balancer in front of a server."""

    def __init__(self, folder, port, to, header):
        self.port = port
        file = pathlib.Path(folder, f"haproxy-{port}.cfg")
        file.write_text("defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n"
                        f"listen ssh\n bind 127.0.0.1:{port}\n server login 127.0.0.1:{to} {header}\n")
        self.process = subprocess.Popen(["haproxy", "-db", "-f", file], stderr=subprocess.DEVNULL)

    def close(self):
        self.process.kill()
        self.process.wait()


def not_ready(start):
    """Milliseconds from SIGTERM until the health endpoint says 503, with one login that stays."""
    server = start('health-listen = "127.0.0.1:2455"')
    url = "http://127.0.0.1:2455/readyz"
    client = subprocess.Popen([*server.ssh(), "echo x; exec sleep 1000"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert client.stdout.read(1) == b"x"
        assert urllib.request.urlopen(url, timeout=10).status == 200
        gateway = next(f for f in server.processes() if os.path.basename(os.readlink(f / "exe")) == "login-gateway")
        begin = time.perf_counter()
        os.kill(int(gateway.name), 15)
        while True:
            try:
                urllib.request.urlopen(url, timeout=10)
            except urllib.error.HTTPError as answer:
                assert answer.code == 503
                return (time.perf_counter() - begin) * 1000
    finally:
        client.kill()
        client.wait()
        server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few runs, to see that it works")
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target/release")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/results/protections.json")
    args = parser.parse_args()
    trixie = LAB / "clients/trixie"
    if not (trixie / "usr/sbin/sshd").exists():
        subprocess.run([ROOT / "tests/lab/clients.sh", "trixie"], check=True)
    times = 4 if args.quick else 30
    raw = {}
    with tempfile.TemporaryDirectory() as keys:
        os.chmod(keys, 0o755)
        for name in ("host", "user", "wrong"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{keys}/{name}"], check=True)
        ports = iter(range(2420, 2450))

        def start(more="", **options):
            return Server("ours", next(ports), trixie, args.programs.resolve(), keys, "/run/bench/sftp-server", more, **options)

        def compare(what, unit, without, with_it, measure, times=times):
            values = raw[f"{what}: {unit}"] = {"without": [], "with": []}
            for turn in range(-1, times):
                for which, server in (("without", without), ("with", with_it)):
                    value = measure(server)
                    if turn >= 0:
                        values[which].append(value)
            print(f"  {what}: {unit}", flush=True)

        def pair(what, servers):
            without, with_it = servers
            try:
                compare(what, "login ms", without, with_it, measures.login)
                if what == "terminals recorded":
                    compare(what, "login with a terminal, ms", without, with_it, terminal_login)
                    compare(what, "screen MiB/s", without, with_it, screen, min(times, 5))
                    for server, which in ((without, "without"), (with_it, "with")):
                        keys = measures.keystrokes(server, "none", 20 if args.quick else 200)
                        raw.setdefault(f"{what}: key ms", {})[which] = keys
                if what == "sftp on the record":
                    for way in ("get", "put"):
                        compare(what, f"sftp {way} MiB/s", without, with_it, lambda s: measures.sftp(s, way, 64)[0], min(times, 5))
            finally:
                without.close()
                with_it.close()

        for what, (without, with_it) in PAIRS.items():
            pair(what, (start(without), start(with_it)))
        pair(AUDIT, (start(log_level="off"), start()))
        plain = start()
        header = start('proxy-protocol = { from = ["127.0.0.1/32"], required = true }')
        balancers = [Haproxy(keys, next(ports), plain.port, ""), Haproxy(keys, next(ports), header.port, "send-proxy-v2")]
        behind = {plain: balancers[0].port, header: balancers[1].port}
        try:
            time.sleep(1)
            compare(PROXY, "login ms", plain, header, lambda s: balanced(s, behind[s]))
        finally:
            for what in (*balancers, plain, header):
                what.close()
        raw["from SIGTERM to not ready, ms"] = {"ours": [not_ready(start) for _ in range(2 if args.quick else 5)]}
    args.out.write_text(json.dumps(raw, indent=1) + "\n")
    table = report(raw, args.quick)
    args.out.with_suffix(".txt").write_text(table)
    print(table, end="")


def report(raw, quick):
    """Medians without and with, and their ratio."""
    lines = [f"{'quick runs, not to be quoted' if quick else 'medians':60} {'without':>9} {'with':>9} {'ratio':>6}"]
    for what, values in raw.items():
        if "ours" in values:
            lines.append(f"{what:60} {'':9} {statistics.median(values['ours']):9.2f}")
            continue
        without, with_it = (statistics.median(values[which]) for which in ("without", "with"))
        lines.append(f"{what:60} {without:9.2f} {with_it:9.2f} {with_it / without:6.2f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
