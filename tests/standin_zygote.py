"""A zygote without a sandbox whose workers do what the payload says, lawful or not: for what the
real one never does. Run as a program it speaks the launcher's side; imported it gives a runtime."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import struct
import sys
import time

HEADER = struct.Struct("<IBBHQ")
INVOKE = struct.Struct("<QHHI")
ANSWER = struct.Struct("<QIqI")
READY, INIT_ERROR, RESULT, ERROR = 16, 17, 18, 19


def frame(word, body, *, sequence=0, flags=0, traced=0, length=None):
    length = len(body) if length is None else length
    return HEADER.pack(length, word, flags, traced, sequence) + body


def answer(
    text=b"null", *, sequence, word=RESULT, micros=1000, rss=20_000, until=-1, kind=0, **header
):
    return frame(word, ANSWER.pack(micros, rss, until, kind) + text, sequence=sequence, **header)


def runtime(**quirks):
    """A runtime whose launcher is this file. `quirks` change what it does: see `serve`."""
    from streamfaas.runtimes import Command

    def command(function):
        spec = {"type": "spec", "function": function.name, "quirks": quirks}
        return Command((sys.executable, "-I", "-S", __file__), {}, json.dumps(spec).encode())

    return command


def serve(control):
    quirks = json.loads(control.recv(1 << 17))["quirks"]
    if "dies" in quirks:
        print("no reason\nthe last line", flush=True)
        os._exit(7)
    if "mute" in quirks:
        time.sleep(3600)
    if "refuses" in quirks:
        control.send(json.dumps({"type": "refused", **quirks["refuses"]}).encode())
        os._exit(1)
    if "babbles" in quirks:
        control.send(b"what?")
        time.sleep(3600)
    ready = {"type": "ready", "level": "none", "controls": {"pid": "missing: a stand-in"}}
    control.send(json.dumps({**ready, "missing": [{"control": "pid"}]}).encode())
    children = {}
    control.setblocking(False)
    while True:
        try:
            packet, fds, _, _ = socket.recv_fds(control, 1 << 17, 4)
        except BlockingIOError:
            reap(control, children, quirks)
            time.sleep(0.001)
            continue
        if not packet:
            os._exit(0)
        spawn(control, children, json.loads(packet), fds, quirks)


def spawn(control, children, asked, fds, quirks):
    if "cannot_fork" in quirks:
        said = {"type": "spawn-failed", "worker": asked["worker"], "reason": "no"}
        control.send(json.dumps(said).encode())
        for fd in fds:
            os.close(fd)
        return
    pid = os.fork()
    if pid == 0:
        control.close()
        os.setsid()
        channel, answers, log = fds
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        live(Channel(channel, answers), quirks)
        os._exit(0)
    children[pid] = asked["worker"]
    for fd in fds:
        os.close(fd)
    pidfd = os.pidfd_open(pid)
    socket.send_fds(
        control, [json.dumps({"type": "spawned", "worker": asked["worker"]}).encode()], [pidfd]
    )
    os.close(pidfd)


def reap(control, children, quirks):
    while children:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            return
        worker = children.pop(pid)
        if "hides_exits" not in quirks:
            said = {
                "type": "exited",
                "worker": worker,
                "status": status,
                "max_rss_kb": usage.ru_maxrss,
                "cpu_seconds": 0.0,
            }
            control.send(json.dumps(said).encode())


class Channel:
    """Where a worker is told, and where it answers."""

    def __init__(self, told, answers):
        self.told = socket.socket(fileno=told)
        self.answers = io.FileIO(answers, "wb")
        self.recv, self.sendall = self.told.recv, self.answers.write

    def close(self):
        self.told.close()
        self.answers.close()


def live(channel, quirks):
    if "greeting" in quirks:
        channel.sendall(bytes.fromhex(quirks["greeting"]))
    else:
        channel.sendall(frame(READY, struct.pack("<QI", 1500, 20_000)))
    while True:
        head = read(channel, HEADER.size)
        if head is None:
            return
        length, word, _, traced, sequence = HEADER.unpack(head)
        if word == 2:
            if "stays" in quirks:
                time.sleep(3600)
            return
        _, ids, contexts, describes = INVOKE.unpack(read(channel, INVOKE.size))
        body = read(channel, length - INVOKE.size)
        payload = body[traced + ids + contexts + describes :]
        act(channel, sequence, payload)


def act(channel, sequence, payload):
    """Does what the payload says: raw bytes to send, after the number to answer to is put in."""
    if payload.startswith(b"raw:"):
        channel.sendall(payload[4:].replace(b"SEQUENCE", struct.pack("<Q", sequence)))
    elif payload.startswith(b"exit:"):
        os._exit(int(payload[5:]))
    elif payload.startswith(b"signal:"):
        os.kill(os.getpid(), int(payload[7:]))
    elif payload == b"hang":
        time.sleep(3600)
    elif payload == b"stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif payload == b"close":
        channel.close()
        time.sleep(3600)
    elif payload == b"drip":
        for byte in answer(b"1", sequence=sequence):
            channel.sendall(bytes([byte]))
            time.sleep(0.05)
    elif payload == b"leave after answer":
        channel.sendall(answer(b'"done"', sequence=sequence))
        os._exit(0)
    else:
        channel.sendall(answer(payload, sequence=sequence))


def read(channel, size):
    data = bytearray()
    while len(data) < size:
        more = channel.recv(size - len(data))
        if not more:
            return None
        data += more
    return bytes(data)


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = ""
    serve(socket.socket(fileno=int(sys.argv[1])))
