"""One worker's channel: checked words out of bytes, and invocations into them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from streamfaas.flow.errors import ProtocolError
from streamfaas.flow.handshake import Handshake, State, Word
from streamfaas.flow.invocation import Invocation

HEADER = struct.Struct("<IBBHQ")
"""Length of the body, word, flags, traced, sequence. `traced` is how many bytes of it are about
traces: before an invocation's id the context that its function is in, before an answer's JSON
those that its records came with."""

ANSWER = struct.Struct("<IBBHQQIqI")
"""The header of a RESULT or ERROR and what is before its JSON: handler µs, largest RSS in KiB,
until or -1, kind."""

READINESS = struct.Struct("<QI")
"""All of a READY: init µs, largest RSS in KiB."""

WROTE = 1
"""Flag of a RESULT or ERROR: the handler wrote to stdout or stderr."""

READ_BYTES = 16 * 1024
ERROR_BYTES_MAX = 256 * 1024
ROOM_BYTES = 64 * 1024
"""What a RESULT may have over the largest answer."""

Fields: TypeAlias = tuple[int, int, int, int, int, int, int, int, int]
"""An `ANSWER`, taken apart."""

_INVOCATION = struct.Struct("<IBBHQQHHI")  # the header and an INVOKE's own, in one go
_take_apart: Callable[[bytes | memoryview], Fields] = ANSWER.unpack_from
_ANSWER_SIZE = ANSWER.size - HEADER.size
_SEND_BUFFER_BYTES = 4 * 1024 * 1024
_SO_SNDBUFFORCE = 32
_BUFFERS_MAX = 512  # well under the kernel's IOV_MAX
_JOINED_BYTES_MAX = 4096  # to copy a small event is cheaper than to send it in two pieces
_WORDS = {int(word): word for word in Word}
_BODY_MIN = {Word.READY: READINESS.size, Word.RESULT: _ANSWER_SIZE, Word.ERROR: _ANSWER_SIZE}
# a member of an enum is looked up in Python, and these are needed for every call
_INVOKE, _RESULT, _ERROR = int(Word.INVOKE), int(Word.RESULT), int(Word.ERROR)
_IDLE, _BUSY, _DEAD = State.IDLE, State.BUSY, State.DEAD

Answered = Callable[[Fields, bytes], None]
"""The invocation was answered: by a RESULT or an ERROR, with what it has of traces and this
JSON."""

Heard = Callable[[Word, bytes], None]
"""Another whole, legal word, and its body."""

Lost = Callable[[ProtocolError | None], None]
"""The channel is over: at its end (None), or since the worker broke the protocol."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The descriptors of one channel: a socket on which a worker is told (a large event goes in
    one piece), and a pipe by which it answers: a pipe is a third of the price of a socket, and a
    reader of an answer does not wake the worker that waits for its next invocation."""

    events: socket.socket
    answers: int

    def close(self) -> None:
        self.events.close()
        os.close(self.answers)


def channel_ends() -> tuple[Ends, Ends]:
    """The daemon's ends, which never block, and the worker's. The socket takes a large event in
    one go where the machine allows it: a buffer of the usual size costs 20 µs per MB."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reading, writing = os.pipe()
    except OSError:
        ours.close()
        theirs.close()
        raise
    ours.setblocking(False)
    os.set_blocking(reading, False)
    try:
        ours.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER_BYTES)
    except OSError:  # only root may go over net.core.wmem_max
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return Ends(ours, reading), Ends(theirs, writing)


class Channel:
    """The daemon's end of one worker's channel. Nothing a worker sends raises, blocks, or makes
    the daemon allocate more than a legal word needs."""

    __slots__ = (
        "_answered",
        "_answers",
        "_begun",
        "_caps",
        "_events",
        "_frame",
        "_heard",
        "_loop",
        "_lost",
        "_rest",
        "_sequence",
        "_unsent",
        "handshake",
        "open",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ends: Ends,
        answer_bytes_max: int,
        *,
        answered: Answered,
        heard: Heard,
        lost: Lost,
    ) -> None:
        self.handshake = Handshake()
        self.open = True
        self._loop = loop
        self._events = ends.events
        self._answers = ends.answers
        self._caps = {
            int(Word.READY): READINESS.size,
            int(Word.INIT_ERROR): ERROR_BYTES_MAX,
            int(Word.RESULT): answer_bytes_max + ROOM_BYTES,
            int(Word.ERROR): ERROR_BYTES_MAX,
        }
        self._answered = answered
        self._heard = heard
        self._lost = lost
        self._sequence = 0
        self._begun = b""  # the start of a header
        self._frame = bytearray()  # a word larger than what one read gave
        self._rest: memoryview | None = None  # the part of it that is still to come
        self._unsent: list[memoryview] = []
        loop.add_reader(ends.answers, self._read)

    def invoke(self, invocation: Invocation, deadline_ms: int) -> None:
        """Hands an invocation over. `ConnectionError` where the worker is gone already and has
        seen nothing of it."""
        handshake = self.handshake
        if handshake.state is _IDLE:
            handshake.state = _BUSY  # what the table says, without looking it up
        elif handshake.state is _DEAD:  # lost while idle, and not yet gone for the roster
            raise ConnectionResetError("the worker has died")
        else:
            handshake.said(Word.INVOKE)
        self._sequence = sequence = self._sequence + 1
        name, event = invocation.id.encode(), invocation.event
        context, describe, parts = invocation.client_context, event.describe, event.parts
        trace = b"" if invocation.context is None else invocation.context.packed
        names, contexts, describes, traced = len(name), len(context), len(describe), len(trace)
        size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        # the length counts an INVOKE's own header of 16 bytes
        length = 16 + traced + names + contexts + describes + size
        head = _INVOCATION.pack(
            length,
            _INVOKE,
            event.encoding,
            traced,
            sequence,
            deadline_ms,
            names,
            contexts,
            describes,
        )
        try:
            if length <= _JOINED_BYTES_MAX:
                frame = b"".join((head, trace, name, context, describe, *parts))
                buffers: list[bytes | memoryview] = [frame]
                sent = self._events.send(frame)
            else:
                buffers = [b"".join((head, trace, name, context, describe)), *parts]
                sent = self._events.sendmsg(buffers) if len(buffers) <= _BUFFERS_MAX else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent == length + HEADER.size:
            return
        self._unsent = _after(sent, buffers)
        self._loop.add_writer(self._events.fileno(), self._write)

    def dismiss(self) -> None:
        """Tells the worker to leave."""
        self.handshake.said(Word.EXIT)
        # a worker that cannot even be told is ended by whoever waits for it to leave
        with contextlib.suppress(ConnectionError, BlockingIOError):
            self._events.send(HEADER.pack(0, Word.EXIT, 0, 0, self._sequence))

    def finish(self) -> None:
        """Hears what is still there of a worker that has ended."""
        while self.open and self._read():
            pass

    def close(self) -> None:
        """Lets go of the descriptors. What the worker says from now on is heard by nobody."""
        if self.open:
            self.open = False
            self._loop.remove_reader(self._answers)
            self._loop.remove_writer(self._events.fileno())
            self._unsent = []
            self._rest = None
            self._events.close()
            os.close(self._answers)

    def _write(self) -> None:
        try:
            sent = self._events.sendmsg(self._unsent[:_BUFFERS_MAX])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # the reader finds the end, and what was said before it
            sent, self._unsent = 0, []
        self._unsent = _after(sent, self._unsent)
        if not self._unsent:
            self._loop.remove_writer(self._events.fileno())

    def _read(self) -> bool:
        """One read. False: nothing was there."""
        rest = self._rest
        try:
            if rest is None:
                data = os.read(self._answers, READ_BYTES)
                size = len(data)
            else:
                data = b""
                size = os.readv(self._answers, [rest])
        except (BlockingIOError, InterruptedError):
            return False
        if size >= ANSWER.size and self.handshake.state is _BUSY and rest is None:
            fields = _take_apart(data)
            # all of the answer to what was asked, and nothing else: `_check` has no objection
            if (
                fields[0] == size - HEADER.size
                and (fields[1] == _RESULT or fields[1] == _ERROR)
                and fields[4] == self._sequence
                and not fields[3]
                and not self._begun
                and not self._unsent
            ):
                self.handshake.state = _IDLE
                self._answered(fields, data[ANSWER.size :])
                return True
        try:
            if size == 0:
                self._end(None)
            elif rest is None:
                self._take(data)
            elif size < len(rest):
                self._rest = rest[size:]
            else:
                self._rest, frame = None, memoryview(self._frame)
                self._frame = bytearray()
                self._tell(frame)
        except ProtocolError as error:
            self._end(error)
        return True

    def _take(self, data: bytes) -> None:
        """The start of a word; more than one word cannot be there, since each is an answer."""
        if self._begun:
            data = self._begun + data
            self._begun = b""
        if len(data) < HEADER.size:
            self._begun = data
            return
        length, kind, _, traced, sequence = HEADER.unpack_from(data)
        self._check(length, kind, traced, sequence)
        missing = HEADER.size + length - len(data)
        if missing == 0:
            self._tell(data)
        elif missing > 0:
            self._frame = bytearray(HEADER.size + length)
            self._frame[: len(data)] = data
            self._rest = memoryview(self._frame)[len(data) :]
        else:
            raise ProtocolError(f"{-missing} bytes after the end of {_WORDS[kind].name}")

    def _tell(self, frame: bytes | memoryview) -> None:
        """The word is whole."""
        word = _WORDS[frame[4]]
        if word is Word.RESULT or word is Word.ERROR:
            self._answered(_take_apart(frame), bytes(frame[ANSWER.size :]))
        else:
            self._heard(word, bytes(frame[HEADER.size :]))

    def _check(self, length: int, kind: int, traced: int, sequence: int) -> None:
        """Everything that a header alone can tell, before anything is allocated for the body."""
        cap = self._caps.get(kind)
        if cap is None:
            raise ProtocolError(f"word {kind} is not a worker's")
        word = _WORDS[kind]
        least = _BODY_MIN.get(word, 0)
        if length > cap or length < least:
            raise ProtocolError(f"{word.name} of {length} bytes")
        if traced > length - least:
            raise ProtocolError(f"{word.name} of {length} bytes, {traced} of them about traces")
        if self.handshake.state is State.BUSY:
            if sequence != self._sequence:
                raise ProtocolError(f"{word.name} for {sequence}, asked was {self._sequence}")
            if self._unsent:
                raise ProtocolError(f"{word.name} before all of the invocation was read")
        self.handshake.said(word)

    def _end(self, error: ProtocolError | None) -> None:
        self.close()
        self.handshake.said(Word.LOST)
        self._lost(error)


def _after(sent: int, buffers: list[bytes | memoryview] | list[memoryview]) -> list[memoryview]:
    """What remains of buffers after their first `sent` bytes."""
    rest = []
    for buffer in buffers:
        if sent < len(buffer):
            rest.append(memoryview(buffer)[sent:])
        sent = max(0, sent - len(buffer))
    return rest
