"""libssh (ssh-python): exec, SFTP, a terminal, password."""
import os
import socket
from ssh import options
from ssh.key import import_privkey_file
from ssh.session import Session

env = os.environ


def connect():
    session = Session()
    session.options_set(options.HOST, "127.0.0.1")
    session.options_set(options.USER, env["USER_NAME"])
    session.options_set_port(int(env["PORT"]))
    session.options_set(options.KNOWNHOSTS, env["KNOWN_HOSTS"])
    session.connect()
    return session


def said(session, command, pty=False):
    channel = session.channel_new()
    channel.open_session()
    if pty:
        channel.request_pty()
    channel.request_exec(command)
    text = b""
    while True:
        size, part = channel.read()
        if size <= 0:
            break
        text += part
    return text, channel.get_exit_status()


session = connect()
session.userauth_publickey(import_privkey_file(env["KEY"]))
assert said(session, "echo out; exit 42") == (b"out\n", 42)
assert said(session, "tty", pty=True)[0].startswith(b"/dev/pts/")
sftp = session.sftp_new()
sftp.init()
with sftp.open("there", os.O_CREAT | os.O_WRONLY, 0o600) as there, open(env["FILE"], "rb") as f:
    while part := f.read(32000):
        there.write(part)
with sftp.open("there", os.O_RDONLY, 0) as there, open(env["HERE"] + "/back", "wb") as back:
    for size, part in there:
        back.write(part)
session.disconnect()
session = connect()
session.userauth_password(env["USER_NAME"], env["PASSWORD"])
assert said(session, "id -un")[0].decode().strip() == env["USER_NAME"]
print("all is well")
