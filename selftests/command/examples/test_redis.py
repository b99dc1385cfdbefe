# SPDX-License-Identifier: GPL-2.0-only
"""A Redis server whose memory fails gives no wrong answer: it gives the right one, or dies of SIGBUS."""

import signal
import socket
import subprocess
import time

KEYS = 2000
PORT = 6391


def value(key: int) -> bytes:
    return b"%0400d" % key


class Client:
    def __init__(self) -> None:
        self.socket = socket.create_connection(("localhost", PORT), timeout=60)
        self.file = self.socket.makefile("rb")

    def ask(self, *words: bytes) -> bytes | None:
        """The answer to a command; None if the server has gone."""
        try:
            self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
            line = self.file.readline()
            if not line:
                return None
            if not line.startswith(b"$"):
                return line.strip()
            answer = self.file.read(int(line[1:]) + 2)
            return answer[:-2] if answer else None
        except ConnectionError:
            return None


def connect(server: subprocess.Popen[bytes]) -> Client:
    deadline = time.monotonic() + 120
    while True:
        try:
            return Client()
        except OSError:
            if time.monotonic() > deadline or server.poll() is not None:
                raise
            time.sleep(0.2)


def test_redis_gives_no_wrong_answer(poison, tmp_path):
    server = poison.start("redis-server", "--port", str(PORT), "--save", "", "--dir", str(tmp_path))
    client = connect(server)
    for key in range(KEYS):
        assert client.ask(b"SET", b"%d" % key, value(key)) == b"+OK"

    pages = poison(server, random=8, seed=1)
    assert len(pages) == 8

    for key in range(KEYS):
        answer = client.ask(b"GET", b"%d" % key)
        if answer is None:
            assert server.wait(60) == -signal.SIGBUS
            return
        assert answer == value(key)
    # It has touched none of them; what comes back is as it was.
    poison.undo()
    assert all(client.ask(b"GET", b"%d" % key) == value(key) for key in range(KEYS))
