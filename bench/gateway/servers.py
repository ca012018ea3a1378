"""Both servers, each in namespaces of its own over trixie's file system: same account, key, PAM and ciphers.

The folder .lab/clients/trixie (tests/lab/clients.sh) is mounted read-only below; what changes lies on tmpfs. CPU and
memory are read from /proc of the server's process namespace, so that nothing of the machine is counted.
"""

import os
import pathlib
import shutil
import subprocess
import time

KEEPER = r"""
set -eu
mount --rbind "$ROOT" /mnt; cd /mnt
mount -t tmpfs -o size=4g none home; mount -t tmpfs none run; mount -t tmpfs none tmp
mkdir home/bench home/bench/.ssh run/sshd run/empty run/keys run/bench run/etc run/log
cp -a etc/. run/etc/; mount --bind run/etc etc; mount --bind run/log var/log
mount --bind "$PROGRAMS" run/bench
mount --rbind /dev dev; mount -t proc none proc
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 none dev/pts
mount --bind dev/pts/ptmx dev/ptmx
echo 'bench:x:5001:5001::/home/bench:/bin/bash' >>etc/passwd; echo 'bench:x:5001:' >>etc/group
echo 'bench:*:19000::::::' >>etc/shadow
echo 'gateway:x:5002:5002::/run/empty:/usr/sbin/nologin' >>etc/passwd; echo 'gateway:x:5002:' >>etc/group
cp etc/pam.d/sshd etc/pam.d/login-gateway
cp "$KEYS/host" run/keys/host; chmod 600 run/keys/host
cp "$KEYS/user.pub" home/bench/.ssh/authorized_keys
head -c 536870912 /dev/urandom >home/bench/large 2>/dev/null || true
chown -R 5001:5001 home/bench; chmod 700 home/bench home/bench/.ssh
cat >run/gateway.toml <<CONF
listen = ["127.0.0.1:$PORT"]
host-keys = ["/run/keys/host"]
empty-root = "/run/empty"
max-startups = 2000
$MORE
[subsystems]
sftp = "$SFTP"
CONF
mkdir -m 700 run/log/recordings
printf '%s\n' "Port $PORT" 'ListenAddress 127.0.0.1' 'HostKey /run/keys/host' 'UsePAM yes' 'MaxStartups 2000' 'PidFile none' \
    'PerSourcePenalties no' 'PasswordAuthentication no' 'PrintMotd no' 'Subsystem sftp /usr/lib/openssh/sftp-server' >run/sshd_config
chmod 644 run/gateway.toml
chroot . $COMMAND >run/log/server 2>&1 </dev/null &
echo ready
while read -r _; do :; done
"""

COMMANDS = {
    "sshd": "/usr/sbin/sshd -D -e -f /run/sshd_config",
    "ours": "/run/bench/login-gateway --config /run/gateway.toml",
}
NAMES = {"sshd": "sshd", "ours": "login-gateway"}


class Server:
    """A running server; it ends with the process that made it."""

    def __init__(self, which, port, root, programs, keys, sftp, more="", log_level="info"):
        """`more` goes into the configuration of ours."""
        self.which, self.port, self.keys = which, port, keys
        # Only what is served: not the whole folder of a build.
        self.programs = pathlib.Path(keys, f"programs-{which}-{port}")
        self.programs.mkdir()
        self.programs.chmod(0o755)
        for name in ("login-gateway", "login-gateway-accept", "login-gateway-monitor", "login-gateway-net",
                     "login-gateway-session", "sftp-server"):
            if (programs / name).exists():
                shutil.copy(programs / name, self.programs / name)
        environment = {"PATH": os.environ["PATH"], "ROOT": str(root), "PROGRAMS": str(self.programs), "KEYS": keys,
                       "PORT": str(port), "COMMAND": COMMANDS[which], "SFTP": sftp, "MORE": more,
                       "LOG_FORMAT": "json", "LOG_LEVEL": log_level}
        self.keeper = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", KEEPER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
        line = self.keeper.stdout.readline()
        assert line == "ready\n", f"{which} did not start"
        children = pathlib.Path(f"/proc/{self.keeper.pid}/task/{self.keeper.pid}/children").read_text().split()
        self.namespace = os.readlink(f"/proc/{children[0]}/ns/pid")
        self.first = children[0]
        deadline = time.monotonic() + 30
        if "required = true" in more:
            return
        while subprocess.run([*self.ssh(), "true"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            assert time.monotonic() < deadline, f"{which} does not serve:\n" + self.log()
            time.sleep(0.1)

    def log(self):
        path = pathlib.Path(f"/proc/{self.first}/root/mnt/run/log/server")
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def version(self):
        if self.which == "ours":
            return "login-gateway of this build"
        said = subprocess.run(["nsenter", "-m", "-t", self.first, "chroot", "/mnt", "/usr/sbin/sshd", "-V"],
                              capture_output=True, text=True)
        return (said.stderr or said.stdout).strip().splitlines()[-1]

    def options(self, *more, port=None, user="bench", key="user"):
        return ["-F", "none", *more, "-o", f"Port={port or self.port}", "-o", f"User={user}", "-i", f"{self.keys}/{key}",
                "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
                "-o", f"UserKnownHostsFile={self.keys}/known", "-o", "LogLevel=ERROR",
                "-o", "KexAlgorithms=curve25519-sha256"]

    def ssh(self, *more, **which):
        return ["ssh", *self.options(*more, **which), "127.0.0.1"]

    def processes(self):
        """Folders in /proc of all its processes, its first one included: that reaps orphans."""
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(folder / "ns/pid") == self.namespace:
                    yield folder
            except OSError:
                pass

    def cpu(self):
        """Seconds of processor time of the server and of all that it has started and that has ended."""
        # A process that ends while others are read is missed or counted twice.
        last = None
        while (now := self._ticks()) != last:
            last = now
            time.sleep(0.05)
        return now / os.sysconf("SC_CLK_TCK")

    def _ticks(self):
        ticks = 0
        for folder in self.processes():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            ticks += sum(int(field) for field in fields[11:15])
        return ticks

    def memory(self):
        """Kilobytes that the server's own processes have written and that are given back when they end, those of them
        that no second process has, and the number of processes. What several have (sshd forks, so the two processes of a
        login have pages in common) is divided among them."""
        total, private, count = 0, 0, 0
        for folder in self.processes():
            try:
                if not os.path.basename(os.readlink(folder / "exe")).startswith(NAMES[self.which]):
                    continue
                lines = (folder / "smaps_rollup").read_text().splitlines()[1:]
            except OSError:
                continue
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
            total += sizes["Pss_Dirty"]
            private += sizes["Private_Dirty"]
            count += 1
        return total, private, count

    def close(self):
        self.keeper.kill()
        self.keeper.wait()
