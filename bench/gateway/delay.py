"""A long line in user space: everything that passes is held for half the round trip, in each direction."""

import collections
import socket
import threading
import time

#: Bytes that may be under way in one direction: far more than any window of SSH.
ROOM = 256 << 20


class Delay:
    """A port on 127.0.0.1 that leads to another with this round-trip time, in seconds."""

    def __init__(self, port, round_trip):
        self.target, self.half = port, round_trip / 2
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            for stream in (near, far):
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink in ((near, far), (far, near)):
                self._direction(source, sink)

    def _direction(self, source, sink):
        queue, change, held = collections.deque(), threading.Condition(), [0]

        def read():
            while True:
                try:
                    data = source.recv(256 << 10)
                except OSError:
                    data = b""
                with change:
                    while held[0] > ROOM:
                        change.wait()
                    held[0] += len(data)
                    queue.append((time.monotonic() + self.half, data))
                    change.notify_all()
                if not data:
                    return

        def write():
            while True:
                with change:
                    while not queue:
                        change.wait()
                    due, data = queue.popleft()
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                try:
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    sink.sendall(data)
                except OSError:
                    return
                with change:
                    held[0] -= len(data)
                    change.notify_all()

        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()

    def close(self):
        self.listener.close()
