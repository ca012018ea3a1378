"""Fabric: run, put, get, a forwarded port."""
import os
from fabric import Connection

env = os.environ
with Connection("127.0.0.1", user=env["USER_NAME"], port=int(env["PORT"]),
                connect_kwargs={"key_filename": env["KEY"], "allow_agent": False, "look_for_keys": False}) as us:
    assert us.run("echo out", hide=True).stdout == "out\n"
    assert us.run("exit 42", hide=True, warn=True).exited == 42
    assert us.run("tty", hide=True, pty=True).stdout.startswith("/dev/pts/")
    us.put(env["FILE"], "there")
    us.get("there", env["HERE"] + "/back")
print("all is well")
