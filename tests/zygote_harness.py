"""Starts a zygote as the daemon would and speaks its wire, so that tests ask a worker what it sees."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

ROOM = Path(__file__).parent.parent / "streamfaas"
ZYGOTE = ROOM / "sandbox" / "zygote.py"
ENTRY = ROOM / "guest" / "python" / "bootstrap.py"

HEADER = struct.Struct("<IBBHQ")
INVOCATION = struct.Struct("<QHHI")
READINESS = struct.Struct("<QI")
ANSWER = struct.Struct("<QIqI")
INVOKE, EXIT, READY, INIT_ERROR, RESULT, ERROR = 1, 2, 16, 17, 18, 19
JSON, KAFKA = 1, 2
PATIENCE_SECONDS = 20.0
WORKER_UID = 64321  # nobody's, on any machine


def library_paths() -> dict[str, str]:
    """The compiled libraries of the environment that the tests run in."""
    site = Path(sysconfig.get_path("platlib"))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    records = site / "aiokafka" / "record" / "_crecords"
    return {
        "orjson": str(site / "orjson" / f"orjson{suffix}"),
        "pybase64": str(site / "pybase64" / f"_pybase64{suffix}"),
        "cramjam": str(site / "cramjam" / f"cramjam{suffix}"),
        **{
            f"aiokafka.{name}": str(records / f"{name}{suffix}")
            for name in ("cutil", "default_records", "legacy_records", "memory_records")
        },
    }


def interpreter_for(uid: int) -> str | None:
    """A Python of this version that the user `uid` may start; None where there is none."""
    if uid == 0 or _may_enter(Path(sys.base_prefix), uid):
        return sys.executable
    system = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    return system if Path(system).exists() else None


def _may_enter(path: Path, uid: int) -> bool:
    return all(
        each.stat().st_mode & 0o001 or each.stat().st_uid == uid for each in (path, *path.parents)
    )


@dataclass
class Answer:
    word: int
    wrote: bool
    sequence: int
    micros: int
    memory_kb: int
    until: int
    kind: int
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)


class WorkerLost(Exception):
    pass


class Worker:
    def __init__(
        self, number: int, channel: socket.socket, answers: int, log: int, pidfd: int
    ) -> None:
        self.number = number
        self.channel = channel
        self.answers = answers
        self.log = log
        self.pidfd = pidfd
        self.sequence = 0
        self.init_micros = -1

    @property
    def pid(self) -> int:
        """As the host sees it."""
        for line in Path(f"/proc/self/fdinfo/{self.pidfd}").read_text().splitlines():
            if line.startswith("Pid:"):
                return int(line.split()[1])
        raise AssertionError

    def status(self, name: str) -> str:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return line.split(":", 1)[1].strip()
        raise AssertionError(name)

    def receive(self) -> tuple[int, int, int, bytes]:
        length, word, flags, traced, sequence = HEADER.unpack(self._exactly(HEADER.size))
        self.traced = traced
        return word, flags, sequence, self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            assert select.select([self.answers], [], [], PATIENCE_SECONDS)[0], "it says nothing"
            part = os.read(self.answers, size - len(data))
            if not part:
                raise WorkerLost(self.output())
            data += part
        return data

    def wait_ready(self) -> Worker:
        word, _, _, body = self.receive()
        assert word == READY, body
        self.init_micros, _ = READINESS.unpack(body)
        return self

    def wait_init_error(self) -> dict[str, Any]:
        word, _, _, body = self.receive()
        assert word == INIT_ERROR, (word, body)
        return json.loads(body)

    def send(self, payload: bytes, **options: Any) -> None:
        self.channel.sendall(self.frame(payload, **options))

    def frame(
        self,
        payload: bytes,
        *,
        encoding: int = JSON,
        describe: bytes = b"",
        client: bytes = b"",
        request_id: str = "8f5f0a5e-4f2c-4a33-8d3b-3d1f6a4f7c11",
        deadline_ms: int = 4_102_444_800_000,
    ) -> bytes:
        """An invocation as the daemon would send it."""
        self.sequence += 1
        name = request_id.encode()
        body = INVOCATION.pack(deadline_ms, len(name), len(client), len(describe))
        body += name + client + describe + payload
        return HEADER.pack(len(body), INVOKE, encoding, 0, self.sequence) + body

    def answer(self) -> Answer:
        word, flags, sequence, body = self.receive()
        assert word in {RESULT, ERROR}
        assert sequence == self.sequence
        return Answer(word, bool(flags & 1), sequence, *ANSWER.unpack_from(body), body[24:])

    def call(self, event: Any = None, **options: Any) -> Answer:
        payload = event if isinstance(event, bytes) else json.dumps(event).encode()
        self.send(payload, **options)
        return self.answer()

    def ask(self, event: Any = None, **options: Any) -> Any:
        """The handler's answer, which must be one."""
        answer = self.call(event, **options)
        assert answer.word == RESULT, answer.body
        return answer.value

    def run(self, source: str, **options: Any) -> Any:
        """What `result` is after this source has run in the worker, whose handler executes it."""
        return self.ask({"run": textwrap.dedent(source)}, **options)

    def output(self) -> str:
        """What it has written so far."""
        chunks = []
        while select.select([self.log], [], [], 0)[0]:
            chunk = os.read(self.log, 65536)
            if not chunk:
                break
            chunks.append(chunk)
        return b"".join(chunks).decode(errors="replace")

    def all_output(self) -> str:
        """What it writes until its end."""
        with open(self.log, "rb", closefd=False) as file:
            return file.read().decode(errors="replace")

    def kill(self) -> None:
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def wait_end(self) -> None:
        assert select.select([self.pidfd], [], [], PATIENCE_SECONDS)[0], "the worker lives on"

    def close(self) -> None:
        self.channel.close()
        os.close(self.answers)
        os.close(self.log)
        os.close(self.pidfd)


@dataclass
class Zygote:
    """One function's zygote; a context manager."""

    code: Path
    uid: int = field(default_factory=os.getuid)  # whom the daemon would run as
    options: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] = field(init=False)  # ready or refused
    ordered: int = 0
    workers: list[Worker] = field(default_factory=list)
    before: tuple[str, ...] = ()  # a program that starts the zygote in a poorer place

    def __enter__(self) -> Self:
        python = interpreter_for(self.uid)
        assert python is not None
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(PATIENCE_SECONDS)
        reader, writer = os.pipe()
        self.log = reader
        user: dict[str, Any] = {}
        if self.uid != os.getuid():
            user = {"user": self.uid, "group": self.uid, "extra_groups": []}
        self.process = subprocess.Popen(
            [*self.before, python, "-I", "-S", str(ZYGOTE), str(theirs.fileno())],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            pass_fds=[theirs.fileno()],
            **user,
        )
        theirs.close()
        os.close(writer)
        self.control.send(json.dumps(self.spec()).encode())
        try:
            self.said, _ = self.packet()
        except BaseException:
            self.__exit__()
            raise
        return self

    def spec(self) -> dict[str, Any]:
        env = {
            "AWS_LAMBDA_FUNCTION_NAME": "fn",
            "LAMBDA_TASK_ROOT": "/var/task",
            "PATH": "/usr/bin:/bin",
            "HOME": "/tmp",
            "TZ": ":UTC",
        }
        return {
            "type": "spec",
            "function": "fn",
            "code": str(self.code),
            "handler": "app.handler",
            "venv": None,
            "mounts": [],
            "enforce": True,
            "network": "host",
            "tmp_bytes": 16 * 1024 * 1024,
            "files_max": 256,
            "processes_max": 64,
            "data_bytes": None,
            "uid": WORKER_UID if self.uid == 0 else None,
            "entry": str(ENTRY),
            "libraries": library_paths(),
            "memory_mb": 128,
            "arn": "arn:aws:lambda:us-east-1:000000000000:function:fn",
            "log_group": "/aws/lambda/fn",
            "log_stream_prefix": "2026/01/01/[$LATEST]",
            "event_bytes_max": 6 * 1024 * 1024,
            "answer_bytes_max": 6_291_556,
            **self.options,
            "env": env | self.options.get("env", {}),
        }

    def packet(self) -> tuple[dict[str, Any], list[int]]:
        data, descriptors, _, _ = socket.recv_fds(self.control, 131072, 4)
        if not data:
            raise WorkerLost(self.zygote_log())
        return json.loads(data), list(descriptors)

    def zygote_log(self) -> str:
        chunks = []
        while select.select([self.log], [], [], 1)[0]:
            chunk = os.read(self.log, 65536)
            if not chunk:
                break
            chunks.append(chunk)
        return b"".join(chunks).decode(errors="replace")

    def order(self) -> Worker:
        """A worker that has not spoken yet."""
        self.ordered += 1
        number = self.ordered
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE_SECONDS)
        answers, answering = os.pipe()
        reader, writer = os.pipe()
        request = {"type": "spawn", "worker": number, "log_stream": f"stream-{number}"}
        ends = [theirs.fileno(), answering, writer]
        socket.send_fds(self.control, [json.dumps(request).encode()], ends)
        theirs.close()
        os.close(answering)
        os.close(writer)
        answer, descriptors = self.packet()
        assert answer == {"type": "spawned", "worker": number}, answer
        worker = Worker(number, ours, answers, reader, descriptors[0])
        self.workers.append(worker)
        return worker

    def spawn(self) -> Worker:
        return self.order().wait_ready()

    def end(self, worker: Worker) -> dict[str, Any]:
        """Kills a worker and lets go of it; gives back how it ended."""
        worker.kill()
        return self.bury(worker)

    def bury(self, worker: Worker) -> dict[str, Any]:
        """Lets go of a worker that ends by itself; gives back how it ended."""
        worker.wait_end()
        exited = self.wait_exited(worker)
        self.workers.remove(worker)
        worker.close()
        return exited

    def wait_exited(self, worker: Worker) -> dict[str, Any]:
        packet, _ = self.packet()
        assert packet["type"] == "exited"
        assert packet["worker"] == worker.number
        return packet

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE_SECONDS)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the zygote stayed after its control socket closed")
        for worker in self.workers:
            worker.close()
        os.close(self.log)
