"""A worker's conversation with the daemon: one invocation after the other."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import time

from streamfaas.guest.python.context import ClientContext, LambdaContext
from streamfaas.guest.python.failure import Failure, encode, failure, failure_of
from streamfaas.guest.python.handler import Handler
from streamfaas.guest.python.kafka import EventBuilder, Kind, Unbuildable
from streamfaas.guest.python.marshalling import Dumps, Loads
from streamfaas.guest.python.output import Output
from streamfaas.guest.python.tracing import enter, leave, producers

INVOKE = 1
EXIT = 2
READY = 16
INIT_ERROR = 17
RESULT = 18
ERROR = 19

JSON = 1
WROTE_OUTPUT = 1
KIND_FUNCTION = 1

HEADER = struct.Struct("<IBBHQ")  # length of the body, type, flags, 0, sequence
INVOCATION = struct.Struct("<IBBHQQHHI")  # header; deadline, lengths of id, context, question
# of the header: how long the trace context before the id is, and what is handed back of producers
READINESS = struct.Struct("<QI")  # microseconds of init, kilobytes of memory
ANSWER = struct.Struct("<IBBHQQIqI")  # header; microseconds, kilobytes, until, kind of error

_BUFFER_BYTES = 64 * 1024
_KEPT_BYTES_MAX = 1024 * 1024
_ANSWER_BYTES = ANSWER.size - HEADER.size
_WORD_AT = 4
_EVENT_FAILURES = {Kind.OVERSIZE: "Event.TooLarge", Kind.CORRUPT: "Event.Corrupt"}
_MEMORY_AGE_NS = 20_000_000  # asking the kernel for the memory used takes longer than answering


class Conversation:
    """Everything that the loop needs lies in it or in its locals from before the function's
    code runs: whatever a handler does to modules, the protocol goes on."""

    def __init__(
        self,
        channel: socket.socket,
        answers: int,
        output: Output,
        *,
        loads: Loads,
        dumps: Dumps,
        builder: EventBuilder,
        answer_bytes_max: int,
    ) -> None:
        self._channel = channel
        self._answers = answers
        self._output = output
        self._loads = loads
        self._dumps = dumps
        self._build = builder.build
        self._answer_bytes_max = answer_bytes_max
        self._wrote = output.is_unread
        # a child that a handler forks must not come back and answer too
        os.register_at_fork(after_in_child=self._hang_up)

    def say_ready(self, init_ns: int) -> None:
        """The handler is imported; it took this long."""
        self._say(READY, READINESS.pack(init_ns // 1000, memory_kb()))

    def say_no(self, described: Failure) -> None:
        """The handler could not be had."""
        self._output.write_error(described)
        self._say(INIT_ERROR, encode(described, self._dumps))

    def serve(self, handler: Handler, context_class: type[LambdaContext]) -> None:
        """Answers until the daemon says that the worker shall leave, or is gone."""
        inbox = Inbox(self._channel)
        buffer, view = inbox.buffer, inbox.view
        receive, rest = self._channel.recv_into, inbox.rest
        write, answers = os.writev, self._answers
        loads, dumps, build, output = self._loads, self._dumps, self._build, self._output
        flush_stdout, flush_stderr = output.stdout.flush, output.stderr.flush
        wrote, now, pack_answer = self._wrote, time.perf_counter_ns, ANSWER.pack
        unpack, header_bytes, id_at = INVOCATION.unpack_from, HEADER.size, INVOCATION.size
        answer_bytes_max = self._answer_bytes_max
        memory, memory_at = memory_kb(), now()
        sampled: bool | None = None  # the trace of the invocation, where it has one
        while True:
            have = receive(buffer)
            if have < id_at:
                have = rest(have)
                buffer, view = inbox.buffer, inbox.view
                if not have or buffer[_WORD_AT] != INVOKE:
                    return
            (
                length,
                word,
                encoding,
                traced,
                sequence,
                deadline,
                id_bytes,
                client_bytes,
                ask_bytes,
            ) = unpack(buffer)
            if have != header_bytes + length:
                have = rest(have)
                buffer, view = inbox.buffer, inbox.view
            if not have or word != INVOKE:
                return
            began = now()
            name_at = id_at + traced
            if traced:
                sampled = enter(buffer[id_at:name_at])
            elif sampled is not None:
                sampled = None
                leave()
            client_at = name_at + id_bytes
            ask_at = client_at + client_bytes
            payload_at = ask_at + ask_bytes
            output.request_id = request_id = buffer[name_at:client_at].decode("ascii")
            event = answer = described = None
            until, kind, linked = -1, 0, b""
            try:
                context = context_class(request_id, deadline)
                if client_bytes:
                    context.client_context = ClientContext(loads(view[client_at:ask_at]))
                if encoding == JSON:
                    event = loads(view[payload_at:have])
                else:
                    event, until = build(view[payload_at:have], loads(view[ask_at:payload_at]))
                    if sampled:
                        linked = producers(event)
            except Unbuildable as error:
                kind, until = error.kind, error.until
                described = failure(_EVENT_FAILURES[kind], str(error), request_id)
            except Exception as error:
                message = f"Unable to unmarshal input: {error}"
                described = failure("Runtime.UnmarshalError", message, request_id)
            else:
                try:
                    # offsets that hold no record need no handler
                    if event is not None or encoding == JSON:
                        answer = handler(event, context)
                except SystemExit:
                    raise
                except BaseException as error:
                    described = failure_of(error, request_id)
                else:
                    try:
                        body = dumps(answer)
                    except Exception as error:
                        message = f"Unable to marshal response: {error}"
                        described = failure("Runtime.MarshalError", message, request_id)
                    else:
                        if len(body) > answer_bytes_max:
                            described = _too_large(answer_bytes_max, request_id)
            if described is None:
                word = RESULT
            else:
                word = ERROR
                body = encode(described, dumps)
                if not kind:
                    kind = KIND_FUNCTION
                    output.write_error(described)
                if sampled is False and encoding != JSON:  # what fails is kept in any case
                    linked = producers(event)
            if linked:
                body = linked + body
            try:
                flush_stdout()
                flush_stderr()
            except (OSError, ValueError):  # the handler closed them
                pass
            ended = now()
            if ended - memory_at > _MEMORY_AGE_NS:
                memory, memory_at = memory_kb(), ended
            micros = (ended - began) // 1000
            size = _ANSWER_BYTES + len(body)
            head = pack_answer(
                size, word, wrote(), len(linked), sequence, micros, memory, until, kind
            )
            sent = write(answers, (head, body))
            if sent < len(head) + len(body):
                self._write((head + body)[sent:])
            if have > _KEPT_BYTES_MAX:
                inbox.shrink()
                buffer, view = inbox.buffer, inbox.view

    def _say(self, word: int, body: bytes) -> None:
        self._output.flush()
        self._write(HEADER.pack(len(body), word, self._wrote(), 0, 0) + body)

    def _write(self, frame: bytes) -> None:
        while frame:
            frame = frame[os.write(self._answers, frame) :]

    def _hang_up(self) -> None:
        answers, self._answers = self._answers, -1
        self._channel.close()
        with contextlib.suppress(OSError):
            os.close(answers)


class Inbox:
    """Where frames are received, each into one kept buffer: a new one for each payload would cost
    more than reading it. What lies in it is good until the next is received."""

    def __init__(self, channel: socket.socket) -> None:
        self._receive = channel.recv_into
        self.shrink()

    def shrink(self) -> None:
        """Gives back what a large frame needed."""
        self.buffer = bytearray(_BUFFER_BYTES)
        self.view = memoryview(self.buffer)

    def rest(self, have: int) -> int:
        """Receives what is missing of a frame, in a larger buffer if need be. How long it is with
        its header; 0 at the end of the channel, or at nonsense."""
        have = self._fill(have, HEADER.size)
        if not have:
            return 0
        total = HEADER.size + int.from_bytes(self.buffer[:4], "little")
        if total > len(self.buffer):
            begun = self.view[:have]
            self.buffer = bytearray(total)
            self.view = memoryview(self.buffer)
            self.view[:have] = begun
        return total if self._fill(have, total) == total else 0

    def _fill(self, have: int, total: int) -> int:
        """Until so many bytes are there; 0 where the channel ends before."""
        while 0 < have < total:
            got = self._receive(self.view[have:total], 0, socket.MSG_WAITALL)
            have = have + got if got else 0
        return have


def memory_kb() -> int:
    """The largest resident set of this worker so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _too_large(most: int, request_id: str) -> Failure:
    message = f"Response payload size exceeded maximum allowed payload size ({most} bytes)."
    return failure("Function.ResponseSizeTooLarge", message, request_id)
