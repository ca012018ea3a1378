"""What is measured of one server; each function returns raw numbers."""

import concurrent.futures
import os
import pty
import select
import subprocess
import tempfile
import time
import tty

NOWHERE = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}


def timed(command, **more):
    begin = time.perf_counter()
    subprocess.run(command, check=True, **{**NOWHERE, **more})
    return time.perf_counter() - begin


def login(server):
    """Milliseconds from the start of ssh to its end, with `true`."""
    return timed([*server.ssh(), "true"]) * 1000


def logins(server, at_once, number):
    """Logins per second, and the server's milliseconds of processor time for one."""
    before, begin = server.cpu(), time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda _: login(server), range(number)))
    return number / (time.perf_counter() - begin), (server.cpu() - before) / number * 1000


def refusal(server, user):
    """Milliseconds until a wrong key is refused."""
    begin = time.perf_counter()
    done = subprocess.run([*server.ssh(user=user, key="wrong"), "true"], stderr=subprocess.DEVNULL, **NOWHERE)
    assert done.returncode == 255
    return (time.perf_counter() - begin) * 1000


def down(server, cipher, mib, port=None):
    """MiB a second from the server, and its seconds of processor time for a GiB."""
    before = server.cpu()
    seconds = timed([*server.ssh("-c", cipher, port=port), f"head -c {mib}M /dev/zero"])
    return mib / seconds, (server.cpu() - before) * 1024 / mib


def up(server, cipher, mib, port=None):
    """The same towards the server."""
    before = server.cpu()
    with open("/dev/zero", "rb") as zero:
        head = subprocess.Popen(["head", "-c", f"{mib}M"], stdin=zero, stdout=subprocess.PIPE)
        seconds = timed([*server.ssh("-c", cipher, port=port), "cat >/dev/null"], stdin=head.stdout)
    return mib / seconds, (server.cpu() - before) * 1024 / mib


def sftp(server, direction, mib, port=None, cipher="aes128-gcm@openssh.com"):
    """MiB a second of OpenSSH's sftp with a large file on tmpfs, and the server's processor time for a GiB."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as here:
        large = f"{here}/large"
        if direction == "put":
            subprocess.run(["truncate", "-s", f"{mib}M", large], check=True)
            batch = f"put {large} /tmp/put\n"
        else:
            subprocess.run([*server.ssh(), f"head -c {mib}M large >get"], check=True, **NOWHERE)
            batch = f"get get {large}\n"
        before, begin = server.cpu(), time.perf_counter()
        subprocess.run(["sftp", "-q", "-b", "-", *server.options("-c", cipher, port=port), "127.0.0.1"], input=batch.encode(),
                       stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - begin
    return mib / seconds, (server.cpu() - before) * 1024 / mib


def keystrokes(server, load, number=200):
    """Milliseconds until a key comes back from a terminal, while another channel of the connection is busy."""
    with tempfile.TemporaryDirectory() as folder:
        at = ["-o", f"ControlPath={folder}/c"]
        master = subprocess.Popen([*server.ssh("-M", "-N", *at)], **NOWHERE)
        while not os.path.exists(f"{folder}/c"):
            time.sleep(0.01)
        near, far = pty.openpty()
        tty.setraw(far)
        shell = subprocess.Popen([*server.ssh("-tt", *at), "stty raw -echo; echo ready; exec cat"], stdin=far, stdout=far,
                                 stderr=subprocess.DEVNULL)
        seen = b""
        while b"ready" not in seen:
            seen += os.read(near, 1000)
        busy = None
        if load == "down":
            busy = subprocess.Popen([*server.ssh(*at), "cat /dev/zero"], **NOWHERE)
        elif load == "up":
            with open("/dev/zero", "rb") as zero:
                busy = subprocess.Popen([*server.ssh(*at), "cat >/dev/null"], stdin=zero, stdout=subprocess.DEVNULL)
        time.sleep(1)
        times = []
        for _ in range(number):
            begin = time.perf_counter()
            os.write(near, b"k")
            back = b""
            while b"k" not in back:
                if not select.select([near], [], [], 20)[0]:
                    raise TimeoutError(f"no echo from {server.which} under load '{load}'")
                back = os.read(near, 1000)
            times.append((time.perf_counter() - begin) * 1000)
            time.sleep(0.01)
        for process in (busy, shell, master):
            if process:
                process.kill()
                process.wait()
        os.close(near)
        os.close(far)
    return times


def idle(server, number):
    """Memory and processes of the server for each of so many logins that do nothing, and the seconds to get there."""
    before = server.memory()
    begin, clients = time.perf_counter(), []
    try:
        for start in range(0, number, 16):
            batch = [subprocess.Popen([*server.ssh(), "echo x; exec sleep 10000"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
                     for _ in range(min(16, number - start))]
            clients += batch
            for client in batch:
                assert client.stdout.read(1) == b"x", f"{server.which} took {len(clients) - 16} logins"
        seconds = time.perf_counter() - begin
        time.sleep(1)
        memory, private, processes = ((now - then) / number for now, then in zip(server.memory(), before))
        assert all(client.poll() is None for client in clients), "a login was lost"
        # One more still gets in.
        extra = login(server)
        return {"logins": number, "kib": memory, "kib of one process alone": private, "processes": processes, "seconds": seconds,
                "one more ms": extra}
    finally:
        for client in clients:
            client.kill()
        for client in clients:
            client.wait()
