"""Client and server of the bus, written from the description of the wire alone.

It has nothing in common with the package that it tests:

    python3 peer.py client SOCKET NAME
    python3 peer.py server SOCKET

Both print what they receive, one JSON list [verb, argument, body] a line, after
"ready". The client sends what it reads from standard input, one JSON list of
that kind a line. The server ends at the end of standard input. Whatever is not
as described ends either of them with an error.
"""

import collections
import json
import os
import socket
import struct
import sys
import threading
import time
import uuid

HEADER, BODY = 4096, 1 << 20
VERBS = {"HELLO", "SUB", "UNSUB", "PUB", "EVT", "BYE"}


def show(*what):
    # One write: several threads print.
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def fail(why):
    sys.stderr.write("peer.py: %s\n" % why)
    sys.stderr.flush()
    os._exit(1)


def pack(verb, arg, body):
    line = verb.encode("ascii")
    if arg:
        line += b" " + arg.encode("ascii")
    line += b"\n"
    data = b"" if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    if len(line) > HEADER or len(data) > BODY:
        fail("cannot send so much")
    return line + struct.pack(">I", len(data)) + data


def unpack(stream):
    """Returns a frame, or None at the end."""
    line = stream.readline(HEADER + 1)
    if not line:
        return None
    if not line.endswith(b"\n") or len(line) > HEADER:
        fail("no first line: %r" % line[:100])
    verb, _, arg = line.rstrip(b"\r\n").decode("ascii").partition(" ")
    if verb not in VERBS:
        fail("no verb: %r" % line[:100])
    prefix = stream.read(4)
    if len(prefix) < 4:
        return None
    (length,) = struct.unpack(">I", prefix)
    if length > BODY:
        fail("a body of %d bytes" % length)
    data = stream.read(length)
    if len(data) < length:
        return None
    body = json.loads(data.decode("utf-8")) if data else None
    if body is not None and not isinstance(body, dict):
        fail("a body that is no object")
    return verb, arg.strip(), body


def check_envelope(topic, body):
    if body is None or set(body) != {"v", "id", "topic", "type", "ts", "payload"}:
        fail("an envelope with other keys: %r" % body)
    if body["v"] != 1 or body["topic"] != topic or not isinstance(body["payload"], dict):
        fail("not an envelope: %r" % body)
    if not isinstance(body["type"], str) or not isinstance(body["id"], str) or not body["id"]:
        fail("not an envelope: %r" % body)
    if not isinstance(body["ts"], (int, float)):
        fail("a time that is no number: %r" % body)


def matches(pattern, topic):
    p, t = pattern.split("."), topic.split(".")
    for i, token in enumerate(p):
        if token == ">" and i == len(p) - 1:
            return len(t) > i
        if i >= len(t) or token not in ("*", t[i]):
            return False
    return len(p) == len(t)


def client(path, name):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)
    sock.sendall(pack("HELLO", name, None))

    def receive():
        stream = sock.makefile("rb")
        while True:
            frame = unpack(stream)
            if frame is None:
                show("END", "", None)
                return
            verb, arg, body = frame
            if verb == "EVT":
                check_envelope(arg, body)
                int(body["id"], 16)
                if abs(body["ts"] - time.time()) > 60:
                    fail("a time that is not now: %r" % body)
            elif verb != "BYE":
                fail("%s from a server" % verb)
            show(verb, arg, body)

    threading.Thread(target=receive, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        verb, arg, body = json.loads(line)
        sock.sendall(pack(verb, arg, body))


class Connection:
    def __init__(self, sock):
        self.sock = sock
        self.patterns = set()
        self.frames = collections.deque(maxlen=1024)  # which forgets the oldest
        self.some = threading.Condition()
        self.over = False

    def put(self, frame):
        with self.some:
            self.frames.append(frame)
            self.some.notify()

    def end(self):
        with self.some:
            self.over = True
            self.some.notify()

    def write(self):
        while True:
            with self.some:
                while not self.frames and not self.over:
                    self.some.wait()
                if not self.frames:
                    return
                frame = self.frames.popleft()
            try:
                self.sock.sendall(frame)
            except OSError:
                return


def server(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(64)
    connections, lock = set(), threading.Lock()

    def handle(conn):
        first = True
        try:
            stream = conn.sock.makefile("rb")
            while True:
                frame = unpack(stream)
                if frame is None:
                    return
                verb, arg, body = frame
                if first and verb != "HELLO":
                    fail("%s before HELLO" % verb)
                first = False
                if verb == "PUB":
                    check_envelope(arg, body)
                    body = {"v": 1, "id": uuid.uuid4().hex, "topic": arg, "type": body["type"],
                            "ts": time.time(), "payload": body["payload"]}
                    event = pack("EVT", arg, body)
                    with lock:
                        for other in connections:
                            if other is not conn and any(matches(p, arg) for p in other.patterns):
                                other.put(event)
                    continue
                show(verb, arg, body)
                with lock:
                    if verb == "SUB":
                        conn.patterns.add(arg)
                    elif verb == "UNSUB":
                        conn.patterns.remove(arg)
                if verb == "BYE":
                    return
        except OSError:
            pass
        finally:
            with lock:
                connections.discard(conn)
            conn.end()
            conn.sock.close()

    def accept():
        while True:
            sock, _ = listener.accept()
            conn = Connection(sock)
            with lock:
                connections.add(conn)
            threading.Thread(target=conn.write, daemon=True).start()
            threading.Thread(target=handle, args=(conn,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    {"client": client, "server": server}[sys.argv[1]](*sys.argv[2:])
