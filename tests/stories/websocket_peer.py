"""Both ends of WebSockets, as the library `websockets` speaks them; told what to do line by line."""

import logging
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

logging.disable(logging.CRITICAL)


def say(text):
    print(text, flush=True)


def echo(socket):
    for message in socket:
        socket.send(message)


def listen():
    with serve(echo, "127.0.0.1", 0, subprotocols=["chat"]) as server:
        say(server.socket.getsockname()[1])
        server.serve_forever()


def talk(url):
    with connect(url, subprotocols=["other", "chat"], max_size=None) as socket:
        say(f"open {socket.subprotocol}")
        for line in sys.stdin:
            try:
                if line == "echo\n":
                    for message in ["", "text", b"\0\xff" * 40_000, "a" * 1_000_000, ["in", "pieces"]]:
                        socket.send(message)
                        expected = "".join(message) if isinstance(message, list) else message
                        assert socket.recv(timeout=20) == expected
                    assert socket.ping().wait(20)
                    say("echoed")
                elif line == "close\n":
                    socket.close()
                    say(f"closed {socket.close_code}")
                elif line == "wait\n":
                    socket.recv(timeout=20)
            except ConnectionClosed as closed:
                say(f"closed {closed.rcvd.code if closed.rcvd else 1006}")


if __name__ == "__main__":
    talk(sys.argv[1]) if len(sys.argv) > 1 else listen()
