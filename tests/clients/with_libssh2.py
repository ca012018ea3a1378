"""libssh2 (ssh2-python): exec, SFTP, a terminal, password."""
import os
import socket
from ssh2.session import Session
from ssh2.sftp import LIBSSH2_FXF_CREAT, LIBSSH2_FXF_READ, LIBSSH2_FXF_WRITE, LIBSSH2_SFTP_S_IRUSR, LIBSSH2_SFTP_S_IWUSR

env = os.environ


def connect():
    session = Session()
    session.handshake(socket.create_connection(("127.0.0.1", int(env["PORT"])), timeout=60))
    return session


session = connect()
session.userauth_publickey_fromfile(env["USER_NAME"], env["KEY"])
channel = session.open_session()
channel.execute("echo out; exit 42")
size, data = channel.read()
assert data == b"out\n", data
channel.wait_eof()
channel.close()
channel.wait_closed()
assert channel.get_exit_status() == 42
channel = session.open_session()
channel.pty()
channel.execute("tty")
assert channel.read()[1].startswith(b"/dev/pts/")
sftp = session.sftp_init()
mode = LIBSSH2_SFTP_S_IRUSR | LIBSSH2_SFTP_S_IWUSR
data = open(env["FILE"], "rb").read()
with sftp.open("there", LIBSSH2_FXF_CREAT | LIBSSH2_FXF_WRITE, mode) as f:
    f.write(data)
with sftp.open("there", LIBSSH2_FXF_READ, 0) as f, open(env["HERE"] + "/back", "wb") as back:
    for size, part in f:
        back.write(part)
session.disconnect()
session = connect()
session.userauth_password(env["USER_NAME"], env["PASSWORD"])
channel = session.open_session()
channel.execute("id -un")
assert channel.read()[1].decode().strip() == env["USER_NAME"]
print("all is well")
