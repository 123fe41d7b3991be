"""One worker's channel: checked words out of bytes, and invocations into them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from streamfaas.flow.errors import ProtocolError
from streamfaas.flow.handshake import Handshake, State, Word
from streamfaas.flow.invocation import Invocation

HEADER = struct.Struct("<IBBHQ")
"""Length of the body, word, flags, nothing, sequence."""

ANSWER = struct.Struct("<QIqI")
"""Before the JSON of a RESULT or ERROR: handler µs, largest RSS in KiB, until or -1, kind."""

READINESS = struct.Struct("<QI")
"""All of a READY: init µs, largest RSS in KiB."""

WROTE = 1
"""Flag of a RESULT or ERROR: the handler wrote to stdout or stderr."""

BUFFER_BYTES = 64 * 1024
ERROR_BYTES_MAX = 256 * 1024
ROOM_BYTES = 64 * 1024
"""What a RESULT may have over the largest answer."""

_INVOCATION = struct.Struct("<IBBHQQHHI")  # the header and an INVOKE's own, in one go
_SEND_BUFFER_BYTES = 4 * 1024 * 1024
_SO_SNDBUFFORCE = 32
_BUFFERS_MAX = 512  # well under the kernel's IOV_MAX
_WORDS = {int(word): word for word in Word}
_BODY_MIN = {Word.READY: READINESS.size, Word.RESULT: ANSWER.size, Word.ERROR: ANSWER.size}

Heard = Callable[[Word, int, memoryview], None]
"""A whole, legal word: the word, its flags, its body (only good until the call returns)."""

Lost = Callable[[ProtocolError | None], None]
"""The channel is over: at its end (None), or since the worker broke the protocol."""


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """The daemon's end, which never blocks, and the worker's. Both take a large answer or event in
    one go where the machine allows it: a buffer of the usual size costs 20 µs per MB."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    for end in (ours, theirs):
        try:
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER_BYTES)
        except OSError:  # only root may go over net.core.wmem_max
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return ours, theirs


class Channel:
    """The daemon's end of one worker's channel. Nothing a worker sends raises, blocks, or makes
    the daemon allocate more than a legal word needs."""

    __slots__ = (
        "_begun",
        "_buffer",
        "_caps",
        "_frame",
        "_heard",
        "_loop",
        "_lost",
        "_rest",
        "_sequence",
        "_socket",
        "_unsent",
        "_view",
        "handshake",
        "open",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        end: socket.socket,
        buffer: bytearray,
        answer_bytes_max: int,
        *,
        heard: Heard,
        lost: Lost,
    ) -> None:
        """`buffer` is shared by all channels of a loop: a buffer of its own for each read costs
        three times the whole call."""
        self.handshake = Handshake()
        self.open = True
        self._loop = loop
        self._socket = end
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._caps = {
            int(Word.READY): READINESS.size,
            int(Word.INIT_ERROR): ERROR_BYTES_MAX,
            int(Word.RESULT): answer_bytes_max + ROOM_BYTES,
            int(Word.ERROR): ERROR_BYTES_MAX,
        }
        self._heard = heard
        self._lost = lost
        self._sequence = 0
        self._begun = b""  # the start of a header
        self._frame = bytearray()  # a word larger than what one read gave
        self._rest: memoryview | None = None  # the part of it that is still to come
        self._unsent: list[memoryview] = []
        loop.add_reader(end.fileno(), self._read)

    def invoke(self, invocation: Invocation, deadline_ms: int) -> None:
        """Hands an invocation over. `ConnectionError` where the worker is gone already and has
        seen nothing of it."""
        if self.handshake.state is State.DEAD:  # lost while idle, and not yet gone for the roster
            raise ConnectionResetError("the worker has died")
        self.handshake.said(Word.INVOKE)
        self._sequence += 1
        name, event = invocation.id.encode(), invocation.event
        context, describe, parts = invocation.client_context, event.describe, event.parts
        size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        # the length counts an INVOKE's own header of 16 bytes
        length = 16 + len(name) + len(context) + len(describe) + size
        head = (
            _INVOCATION.pack(
                length,
                1,  # Word.INVOKE, whose look-up alone costs more than the packing
                event.encoding,
                0,
                self._sequence,
                deadline_ms,
                len(name),
                len(context),
                len(describe),
            )
            + name
            + context
            + describe
        )
        if len(parts) < _BUFFERS_MAX:
            sent = self._send([head, *parts])
            if sent == HEADER.size + length:
                return
        else:
            sent = 0
        self._unsent = _after(sent, [head, *parts])
        self._loop.add_writer(self._socket.fileno(), self._write)

    def dismiss(self) -> None:
        """Tells the worker to leave."""
        self.handshake.said(Word.EXIT)
        # a worker that cannot even be told is ended by whoever waits for it to leave
        with contextlib.suppress(ConnectionError):
            self._send([HEADER.pack(0, Word.EXIT, 0, 0, self._sequence)])

    def finish(self) -> None:
        """Hears what is still there of a worker that has ended."""
        while self.open and self._read():
            pass

    def close(self) -> None:
        """Lets go of the descriptor. What the worker says from now on is heard by nobody."""
        if self.open:
            self.open = False
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._unsent = []
            self._rest = None
            self._socket.close()

    def _send(self, buffers: list[bytes | memoryview]) -> int:
        try:
            return self._socket.sendmsg(buffers)
        except (BlockingIOError, InterruptedError):
            return 0

    def _write(self) -> None:
        try:
            sent = self._socket.sendmsg(self._unsent[:_BUFFERS_MAX])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # the reader finds the end, and what was said before it
            sent, self._unsent = 0, []
        self._unsent = _after(sent, self._unsent)
        if not self._unsent:
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> bool:
        """One read. False: nothing was there."""
        rest = self._rest
        try:
            size = self._socket.recv_into(self._buffer if rest is None else rest)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            size = 0
        try:
            if size == 0:
                self._end(None)
            elif rest is None:
                self._take(self._view[:size])
            elif size < len(rest):
                self._rest = rest[size:]
            else:
                self._rest, frame = None, self._frame
                self._frame = bytearray()
                self._heard(_WORDS[frame[4]], frame[5], memoryview(frame)[HEADER.size :])
        except ProtocolError as error:
            self._end(error)
        return True

    def _take(self, data: memoryview) -> None:
        """The start of a word; more than one word cannot be there, since each is an answer."""
        if self._begun:
            data = memoryview(self._begun + data)
            self._begun = b""
        if len(data) < HEADER.size:
            self._begun = bytes(data)
            return
        length, kind, flags, _, sequence = HEADER.unpack_from(data)
        word = self._check(length, kind, sequence)
        missing = HEADER.size + length - len(data)
        if missing == 0:
            self._heard(word, flags, data[HEADER.size :])
        elif missing > 0:
            self._frame = bytearray(HEADER.size + length)
            self._frame[: len(data)] = data
            self._rest = memoryview(self._frame)[len(data) :]
        else:
            raise ProtocolError(f"{-missing} bytes after the end of {word.name}")

    def _check(self, length: int, kind: int, sequence: int) -> Word:
        """Everything that a header alone can tell, before anything is allocated for the body."""
        cap = self._caps.get(kind)
        if cap is None:
            raise ProtocolError(f"word {kind} is not a worker's")
        word = _WORDS[kind]
        if length > cap or length < _BODY_MIN.get(word, 0):
            raise ProtocolError(f"{word.name} of {length} bytes")
        if self.handshake.state is State.BUSY:
            if sequence != self._sequence:
                raise ProtocolError(f"{word.name} for {sequence}, asked was {self._sequence}")
            if self._unsent:
                raise ProtocolError(f"{word.name} before all of the invocation was read")
        self.handshake.said(word)
        return word

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
