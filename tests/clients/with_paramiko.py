"""paramiko: exec, shell, SFTP with its own prefetch (trap T1), password, forwarding, agent-less keys."""
import os
import paramiko

env = os.environ
client = paramiko.SSHClient()
client.load_host_keys(env["KNOWN_HOSTS"])
where = dict(hostname="127.0.0.1", port=int(env["PORT"]), username=env["USER_NAME"], allow_agent=False, look_for_keys=False)
client.connect(key_filename=env["KEY"], **where)
stdin, stdout, stderr = client.exec_command("echo out; echo err >&2; exit 42")
assert stdout.read() == b"out\n" and stderr.read() == b"err\n" and stdout.channel.recv_exit_status() == 42
stdin, stdout, stderr = client.exec_command("cat")
stdin.write(b"x" * 3_000_000)
stdin.channel.shutdown_write()
assert len(stdout.read()) == 3_000_000
sftp = client.open_sftp()
sftp.put(env["FILE"], "there")
sftp.get("there", env["HERE"] + "/back")
sftp.mkdir("d")
sftp.rename("there", "d/there")
sftp.posix_rename("d/there", "there")
assert sftp.listdir("d") == [] and sftp.stat("there").st_size == os.path.getsize(env["FILE"])
with sftp.open("appended", "a") as f:
    f.write("one")
with sftp.open("appended", "a") as f:
    f.write("two")
with sftp.open("appended") as f:
    assert f.read() == b"onetwo"
channel = client.invoke_shell(term="vt100", width=90, height=30)
channel.settimeout(30)
channel.send(b"stty size; echo $TERM; exit 7\n")
seen = b""
while part := channel.recv(1000):
    seen += part
assert b"30 90" in seen and b"vt100" in seen and channel.recv_exit_status() == 7, seen
tunnel = client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", int(env["PORT"])), ("127.0.0.1", 1))
tunnel.settimeout(30)
assert tunnel.recv(4) == b"SSH-"
client.close()
client.connect(password=env["PASSWORD"], **where)
assert client.exec_command("id -un")[1].read().decode().strip() == env["USER_NAME"]
client.close()
print("all is well")
