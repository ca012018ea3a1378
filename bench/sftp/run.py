#!/usr/bin/env python3
"""Files over SFTP through our sftp-server and OpenSSH's, in turn, on one machine, in tmpfs.

    bench/sftp/run.py [--runs 5] [--minutes 5] [--size 256] [--files 10000] [--ways server,pipe,sshd,gateway]

server:  a client of this file's own that does nothing but ask, over a pipe: what the server alone can do
pipe:    OpenSSH's sftp -D
sshd:    OpenSSH's sftp through Debian's sshd, which runs the one or the other
gateway: OpenSSH's sftp through login-gateway with our server, and through sshd with OpenSSH's (root only: it
         makes a local user and removes it again)

The programs are those of target/release, or of the folder PROGRAMS. It stops after that many runs, or when the next
one would not end in time. Raw runs (seconds) are kept in bench/results/sftp.json; medians, ratios (above 1: ours is
faster) and processor time of client and server in sftp.txt.
"""

import argparse
import ctypes
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASE = pathlib.Path(os.environ.get("PROGRAMS", ROOT / "target/release"))
SERVERS = {"ours": str(RELEASE / "sftp-server"), "openssh": "/usr/lib/openssh/sftp-server"}
USER = "sftp-bench"
PIECE = 255 * 1024
WINDOW = 64


class Client:
    """Just enough of SFTP to keep a server busy."""

    def __init__(self, server):
        self.process = subprocess.Popen([server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.to, self.back = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.send(struct.pack(">BI", 1, 3))
        self.receive()

    def send(self, *parts):
        data = struct.pack(">I", sum(map(len, parts))) + b"".join(parts)
        while data:
            data = data[os.write(self.to, data):]

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = os.read(self.back, count - len(data))
            if not more:
                sys.exit("the server has ended")
            data += more
        return data

    def receive(self):
        return self.exactly(struct.unpack(">I", self.exactly(4))[0])

    def open(self, path, flags):
        path = os.fsencode(path)
        self.send(struct.pack(">BII", 3, 1, len(path)), path, struct.pack(">II", flags, 0))
        answer = self.receive()
        assert answer[0] == 102, answer
        return answer[5:]

    def end(self):
        self.process.stdin.close()
        _, _, used = os.wait4(self.process.pid, 0)
        self.process.returncode = 0
        return used.ru_utime + used.ru_stime


def server_get(server, path, size):
    client = Client(server)
    handle = client.open(path, 1)
    offset = expected = got = 0
    buffer = bytearray(1 << 20)
    begin = time.perf_counter()
    while got < size:
        while offset < size and offset - got < WINDOW * PIECE:
            count = min(PIECE, size - offset)
            client.send(struct.pack(">BI", 5, 1), handle, struct.pack(">QI", offset, count))
            offset += count
            expected += count + 13
        expected -= os.readv(client.back, [buffer])
        # What was asked for and has not arrived, headers counted.
        got = offset - expected
    took = time.perf_counter() - begin
    return took, client.end()


def server_put(server, path, size):
    client = Client(server)
    handle = client.open(path, 2 | 8 | 16)
    data = memoryview(bytes(PIECE))
    os.set_blocking(client.back, False)
    offset = answers = requests = 0

    def take():
        try:
            return len(os.read(client.back, 1 << 20))
        except BlockingIOError:
            return 0

    begin = time.perf_counter()
    while offset < size:
        count = min(PIECE, size - offset)
        head = struct.pack(">BI", 6, 1) + handle + struct.pack(">QI", offset, count)
        head = struct.pack(">I", len(head) + count) + head
        sent = os.writev(client.to, [head, data[:count]]) - len(head)
        while sent < count:
            sent += os.write(client.to, data[sent:count])
        offset += count
        requests += 1
        answers += take()
    os.set_blocking(client.back, True)
    # An answer has 4 + 1 + 4 + 4 + 4 + 7 + 4 bytes, "Success" being its text in both.
    while answers < requests * 28:
        answers += take()
    took = time.perf_counter() - begin
    return took, client.end()


def server_many(server, folder, files):
    """Opens, reads and closes each file, one request after the other."""
    client = Client(server)
    begin = time.perf_counter()
    for number in range(files):
        handle = client.open(f"{folder}/f{number}", 1)
        client.send(struct.pack(">BI", 5, 1), handle, struct.pack(">QI", 0, 32768))
        client.receive()
        client.send(struct.pack(">BI", 4, 1), handle)
        client.receive()
    took = time.perf_counter() - begin
    return took, client.end()


def used_by_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def reap(command):
    """Runs a server and waits for what its processes leave behind, whose processor time would be lost otherwise."""
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while os.wait()[0] != child.pid:
        pass


def start(command, log=subprocess.DEVNULL):
    return subprocess.Popen([sys.executable, __file__, "--reap", *map(str, command)], stdout=log, stderr=log)


def used_by(server):
    """Processor time of a process and of all that it has started, running or ended."""
    if server is None:
        return 0.0
    parents, ticks = {}, {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
        ticks[int(folder.name)] = sum(int(field) for field in fields[11:15])

    def is_below(process):
        while process and process != server.pid:
            process = parents.get(process)
        return process == server.pid

    return sum(ticks[process] for process in ticks if is_below(process)) / os.sysconf("SC_CLK_TCK")


def sftp(way, lines):
    """Seconds of one batch, and processor time of client and server."""
    command, server = way
    before, begin, client = used_by(server), time.perf_counter(), used_by_children()
    done = subprocess.run([command[0], "-q", "-b", "-", *command[1:]], text=True, input="\n".join(lines) + "\n",
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120)
    took = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"{command}: {done.stderr}")
    return took, used_by_children() - client, used_by(server) - before


def transfers(command, work):
    """Seconds and processor times of each of the four transfers by OpenSSH's client."""
    for name in ("in", "out"):
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).mkdir()
    (work / "out").chmod(0o777)
    return {
        "get one": sftp(command, [f"get {work}/big {work}/in/big"]),
        "put one": sftp(command, [f"put {work}/big {work}/out/big"]),
        "get many": sftp(command, [f"get -r {work}/many {work}/in/many"]),
        "put many": sftp(command, [f"mkdir {work}/out/many", f"put -r {work}/many {work}/out/"]),
    }


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def host(keys, server, user):
    port, process = server
    return ["sftp", "-F", "none", "-P", str(port), "-i", f"{keys}/user", "-o", "IdentitiesOnly=yes", "-o",
            "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o",
            "Ciphers=aes128-gcm@openssh.com", f"{user}@127.0.0.1"], process


def wait_for(port):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("a server does not listen")


def start_sshd(keys, server, stop):
    port = free_port()
    config = keys / f"sshd-{port}"
    config.write_text(f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/authorized\n"
                      f"StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nSubsystem sftp {server}\n")
    os.makedirs("/run/sshd", exist_ok=True)
    stop.append(start(["/usr/sbin/sshd", "-D", "-f", config]))
    wait_for(port)
    return port, stop[-1]


def start_gateway(keys, stop):
    port = free_port()
    empty = keys / "empty"
    empty.mkdir(mode=0o555)
    config = keys / "gateway.toml"
    config.write_text(f'listen = ["127.0.0.1:{port}"]\nhost-keys = ["{keys}/host"]\nuser = "nobody"\n'
                      f'empty-root = "{empty}"\npam-service = "sshd"\nauthorized-keys-files = [".ssh/authorized_keys"]\n'
                      f'[subsystems]\nsftp = "{SERVERS["ours"]}"\n')
    config.chmod(0o600)
    stop.append(start([RELEASE / "login-gateway", "--config", config], open(keys / "gateway.log", "wb")))
    wait_for(port)
    return port, stop[-1]


def measure(args, work, keys, stop):
    me = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    ways = {}
    if "pipe" in args.ways:
        # sftp(1) waits for the server, whose processor time is its own then.
        ways["pipe"] = {who: (["sftp", "-D", server], None) for who, server in SERVERS.items()}
    if "sshd" in args.ways:
        ways["sshd"] = {who: host(keys, start_sshd(keys, server, stop), me) for who, server in SERVERS.items()}
    if "gateway" in args.ways:
        if os.geteuid() != 0:
            print("skipped: gateway: it needs root", file=sys.stderr)
        else:
            home = pathlib.Path(tempfile.mkdtemp(prefix="sftp-bench-home"))
            subprocess.run(["useradd", "--password", "*", "--home-dir", home, "--shell", "/bin/sh", USER], check=True)
            (home / ".ssh").mkdir(mode=0o700)
            shutil.copy(keys / "authorized", home / ".ssh/authorized_keys")
            subprocess.run(["chown", "-R", f"{USER}:", home], check=True)
            home.chmod(0o755)
            theirs = start_sshd(keys, SERVERS["openssh"], stop)
            ways["gateway"] = {"ours": host(keys, start_gateway(keys, stop), USER), "openssh": host(keys, theirs, USER)}
    runs = {}

    def note(way, what, who, value):
        runs.setdefault(way, {}).setdefault(what, {}).setdefault(who, []).append(value)

    size = args.size << 20
    begin = last = time.monotonic()
    for run in range(args.runs):
        for who in list(SERVERS)[:: 1 if run % 2 else -1]:
            if "server" in args.ways:
                for what, (took, cpu) in {
                    "get one": server_get(SERVERS[who], work / "big", size),
                    "put one": server_put(SERVERS[who], work / "put", size),
                    "get many": server_many(SERVERS[who], work / "many", args.files),
                }.items():
                    note("server", what, who, (took, 0.0, cpu))
            for way, commands in ways.items():
                for what, seconds in transfers(commands[who], work).items():
                    note(way, what, who, seconds)
        now = time.monotonic()
        print(f"  run {run + 1} of {args.runs}: {now - last:.0f} s", file=sys.stderr)
        if now - begin + (now - last) > args.minutes * 60:
            break
        last = now
    return runs


def report(args, runs):
    count = len(next(iter(next(iter(runs.values())).values()))["ours"])
    lines = [f"one: {args.size} MiB; many: {args.files} files of 1 KiB; medians of {count}, seconds; of 'pipe', the client's",
             "processor time has the server's in it",
             "                    elapsed               client's CPU      server's CPU",
             "                     ours openssh ratio    ours openssh    ours openssh ours/openssh"]
    for way, whats in runs.items():
        for what, both in whats.items():
            (ours, client, cpu), (theirs, their_client, their_cpu) = (
                [statistics.median(run[part] for run in both[who]) for part in range(3)] for who in ("ours", "openssh"))
            of_client = f"{client:7.2f} {their_client:7.2f}" if client else " " * 15
            of_server = f"{cpu:7.2f} {their_cpu:7.2f} {cpu / their_cpu:7.2f}" if their_cpu else ""
            lines.append(f"{way:8} {what:8} {ours:8.3f} {theirs:7.3f} {theirs / ours:5.2f} {of_client} {of_server}".rstrip())
    return "\n".join(lines) + "\n"


def main():
    if sys.argv[1:2] == ["--reap"]:
        reap(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--size", type=int, default=256, help="MiB of the large file")
    parser.add_argument("--files", type=int, default=10000)
    parser.add_argument("--ways", type=lambda text: text.split(","), default=["server", "pipe", "sshd", "gateway"])
    args = parser.parse_args()
    for program in SERVERS.values():
        if not os.access(program, os.X_OK):
            sys.exit(f"{program} is missing: cargo build --release --workspace; apt-get install openssh-sftp-server")
    work = pathlib.Path(tempfile.mkdtemp(prefix="sftp-bench", dir="/dev/shm"))
    keys = pathlib.Path(tempfile.mkdtemp(prefix="sftp-bench-keys"))
    stop = []
    try:
        work.chmod(0o755)
        keys.chmod(0o755)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
        shutil.copy(keys / "user.pub", keys / "authorized")
        with open("/dev/urandom", "rb") as source, open(work / "big", "wb") as big:
            for _ in range(args.size):
                big.write(source.read(1 << 20))
        (work / "many").mkdir()
        for number in range(args.files):
            (work / f"many/f{number}").write_bytes(bytes(1024))
        runs = measure(args, work, keys, stop)
    finally:
        for process in stop:
            process.terminate()
        for process in stop:
            process.wait()
        if subprocess.run(["getent", "passwd", USER], stdout=subprocess.DEVNULL).returncode == 0:
            subprocess.run(["userdel", "--remove", USER], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(work)
        shutil.rmtree(keys, ignore_errors=True)
    out = ROOT / "bench/results"
    out.mkdir(parents=True, exist_ok=True)
    (out / "sftp.json").write_text(json.dumps({"elapsed, client, server": runs}, indent=1) + "\n")
    text = report(args, runs)
    (out / "sftp.txt").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
