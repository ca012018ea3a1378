#!/usr/bin/env python3
"""Where the servers' processor time goes, into bench/results/gateway-profile.txt: shares by process and object.

    bench/gateway/profile.py [--programs target/release] [--out FILE]

'perf record -e cpu-clock' on the server's processes and all that they start, ours and sshd of Debian trixie in turn, over
40 logins with 'true' and 1 GiB each way. As root; needs Debian's linux-perf. Other work on the machine changes the
times and hardly the shares.
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from servers import Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = pathlib.Path(os.environ.get("LAB", ROOT / ".lab"))
# What is below is left out, in percent.
LEAST = 0.6
WORK = {
    "40 logins with 'true'": (10000, lambda ssh: [ssh("true") for _ in range(40)]),
    "1 GiB down with aes128-gcm": (5000, lambda ssh: ssh("head -c 1G /dev/zero")),
    "1 GiB up with aes128-gcm": (5000, lambda ssh: ssh("cat >/dev/null", "head -c 1G /dev/zero")),
}


def profile(server, frequency, work, folder):
    data = f"{folder}/perf.data"
    pids = ",".join(path.name for path in server.processes())
    perf = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", str(frequency), "-p", pids, "-o", data],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # It says in no other way that it has attached.
    time.sleep(2)

    def ssh(command, source="true"):
        client = " ".join(f"'{word}'" for word in [*server.ssh("-c", "aes128-gcm@openssh.com"), command])
        subprocess.run(["sh", "-c", f"{source} | {client} >/dev/null"], check=True)

    work(ssh)
    perf.send_signal(signal.SIGINT)
    perf.wait()
    table = subprocess.run(["perf", "report", "--stdio", "-q", "-n", "--sort", "comm,dso", "--percent-limit", str(LEAST), "-i", data],
                           check=True, capture_output=True, text=True).stdout
    rows = [line.rstrip() for line in table.splitlines() if line.strip()]
    assert rows, "nothing was sampled"
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target/release")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/results/gateway-profile.txt")
    args = parser.parse_args()
    if not shutil.which("perf"):
        sys.exit("skipped bench/gateway/profile.py: 'perf' is not installed (linux-perf)")
    trixie = LAB / "clients/trixie"
    text = ["'perf record -e cpu-clock' on the server's processes and all that they start (bench/gateway/profile.py);",
            f"{time.strftime('%F', time.gmtime())}, {os.cpu_count()} cores. Share, samples, process, object."]
    with tempfile.TemporaryDirectory() as keys:
        os.chmod(keys, 0o755)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{keys}/{name}"], check=True)
        servers = []
        try:
            for which, port in (("ours", 2413), ("sshd", 2414)):
                servers.append(Server(which, port, trixie, args.programs.resolve(), keys, "/run/bench/sftp-server"))
            for what, (frequency, work) in WORK.items():
                for server in servers:
                    text += ["", f"== {what}, {server.which}", *profile(server, frequency, work, keys)]
                    print(*text[-4:], sep="\n")
        finally:
            for server in servers:
                server.close()
    args.out.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
