from __future__ import annotations

import asyncio
import struct
import tracemalloc
from contextlib import contextmanager

from hypothesis import given, settings
from hypothesis import strategies as st

from standin_zygote import ERROR, HEADER, INIT_ERROR, READY, RESULT, answer, frame
from standin_zygote import Channel as WorkersEnd
from streamfaas.flow.errors import ProtocolError
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.handshake import TABLE, State, Word
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.trace import Context
from streamfaas.workers.channel import ERROR_BYTES_MAX, Channel, channel_ends
from streamfaas.workers.logs import PIPE_BYTES

ANSWER_BYTES_MAX = 1 << 20
GREETING = frame(READY, struct.pack("<QI", 1500, 20_000))


class Ends:
    """A channel, the worker's end of it, and everything the channel has told."""

    def __init__(self, loop):
        ours, theirs = channel_ends()
        self.worker = WorkersEnd(theirs.events.detach(), theirs.answers)
        self.worker.told.settimeout(5)
        self.heard = []
        self.lost = []
        self.channel = Channel(
            loop, ours, ANSWER_BYTES_MAX,
            answered=lambda fields, text: self.heard.append((fields[1], fields[2], text)),
            heard=lambda word, body: self.heard.append((word, 0, body)),
            lost=self.lost.append,
        )  # fmt: skip

    def be_ready(self):
        self.worker.sendall(GREETING)
        self.channel.finish()

    def invoke(self, *parts, id="an-id", context=b"", describe=b"", span=None):  # noqa: A002
        event = Event(Encoding.JSON, parts or (b"{}",), describe)
        call = Invocation(id, "f", event, client_context=context, context=span)
        self.channel.invoke(call, 1234)

    def read(self, size):
        data = b""
        while len(data) < size:
            data += self.worker.recv(size - len(data))
        return data


@contextmanager
def ends():
    loop = asyncio.new_event_loop()
    both = Ends(loop)
    try:
        yield both
    finally:
        both.channel.close()
        both.worker.close()
        loop.close()


def test_an_invocation_reaches_the_worker_as_the_contract_says():
    with ends() as both:
        both.be_ready()
        both.invoke(b"ab", memoryview(b"cd"), id="id-1", context=b"{}", describe=b'{"x":1}')
        length, word, flags, zero, sequence = HEADER.unpack(both.read(16))
        assert (word, flags, zero, sequence) == (Word.INVOKE, Encoding.JSON, 0, 1)
        body = both.read(length)
        assert struct.unpack_from("<QHHI", body) == (1234, 4, 2, 7)
        assert body[16:] == b'id-1{}{"x":1}abcd'


def test_the_span_that_an_invocation_belongs_to_goes_before_its_id():
    span = Context(3 << 64, 7, sampled=True)
    with ends() as both:
        both.be_ready()
        both.invoke(b"{}", id="id-1", span=span)
        length, _, _, traced, _ = HEADER.unpack(both.read(16))
        assert traced == len(span.packed)
        assert both.read(length)[16:] == span.packed + b"id-1{}"


@given(st.binary(max_size=300), st.integers(0, 400))
def test_what_an_answer_says_of_traces_lies_within_it_or_breaks_the_protocol(text, traced):
    with ends() as both:
        both.be_ready()
        both.invoke(b"{}")
        both.worker.sendall(answer(text, sequence=1, traced=traced))
        both.channel.finish()
        if traced <= len(text):
            assert both.heard[1:] == [(Word.RESULT, 0, text)]
            assert both.channel.open
        else:
            assert len(both.heard) == 1
            assert "about traces" in str(both.lost[0])


def test_answers_come_back_with_their_flags_and_bodies():
    with ends() as both:
        both.be_ready()
        for sequence in (1, 2, 3):
            both.invoke(b"{}")
            both.worker.sendall(answer(b"[1]", sequence=sequence, flags=sequence % 2))
            both.channel.finish()
        assert [(word, flags) for word, flags, _ in both.heard[1:]] == [
            (Word.RESULT, 1), (Word.RESULT, 0), (Word.RESULT, 1)]  # fmt: skip
        assert all(body == b"[1]" for _, _, body in both.heard[1:])
        assert both.channel.open


@settings(max_examples=40)
@given(
    st.one_of(st.binary(), st.integers(0, 200_000).map(bytes)),
    st.lists(st.integers(1, 50_000), max_size=8),
)
def test_an_answer_is_the_same_in_however_many_pieces_it_comes(text, sizes):
    with ends() as both:
        both.be_ready()
        both.invoke(b"{}")
        data = answer(text, sequence=1)
        for size in [*sizes, *[PIPE_BYTES] * (len(data) // PIPE_BYTES + 1)]:
            both.worker.sendall(data[:size])
            data = data[size:]
            both.channel.finish()
        assert both.heard[1:] == [(Word.RESULT, 0, text)]
        assert both.channel.handshake.state is State.IDLE


def test_a_header_may_come_byte_by_byte():
    with ends() as both:
        both.be_ready()
        both.invoke(b"{}")
        for byte in answer(b"7", sequence=1):
            both.worker.sendall(bytes([byte]))
            both.channel.finish()
        assert [word for word, _, _ in both.heard] == [Word.READY, Word.RESULT]


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_of_a_worker_that_starts_end_as_a_word_or_as_a_broken_protocol(garbage):
    with ends() as both:
        both.worker.sendall(garbage)
        both.worker.close()
        both.channel.finish()
        assert not both.channel.open
        assert len(both.lost) == 1
        assert both.lost[0] is None or isinstance(both.lost[0], ProtocolError)
        assert both.channel.handshake.state is State.DEAD


words = st.builds(
    lambda length, word, flags, traced, sequence, body: (
        HEADER.pack(length, word, flags, traced, sequence) + body
    ),
    st.one_of(st.integers(0, 64), st.integers(0, 2**32 - 1)),
    st.one_of(st.sampled_from([1, 2, 16, 17, 18, 19, 255]), st.integers(0, 255)),
    st.integers(0, 255),
    st.one_of(st.just(0), st.integers(0, 64), st.integers(0, 2**16 - 1)),
    st.one_of(st.sampled_from([0, 1, 2]), st.integers(0, 2**64 - 1)),
    st.binary(max_size=64),
)


@settings(max_examples=300)
@given(st.lists(words, min_size=1, max_size=5), st.booleans())
def test_any_words_of_a_busy_worker_are_at_most_one_answer(garbage, close):
    with ends() as both:
        both.be_ready()
        both.invoke(b"{}")
        both.worker.sendall(b"".join(garbage))
        if close:
            both.worker.close()
        both.channel.finish()
        answers = [word for word, _, _ in both.heard[1:]]
        assert len(answers) <= 1
        assert set(answers) <= {Word.RESULT, Word.ERROR}
        assert len(both.lost) <= 1
        assert not close or len(both.lost) == 1


def test_what_the_channel_does_without_looking_it_up_is_what_the_table_says():
    assert TABLE[State.IDLE, Word.INVOKE] is State.BUSY
    assert TABLE[State.BUSY, Word.RESULT] is TABLE[State.BUSY, Word.ERROR] is State.IDLE


def refusal(*, greet=True, invoke=True, say):
    """What the channel says of a worker that says this."""
    with ends() as both:
        if greet:
            both.be_ready()
        if invoke:
            both.invoke(b"{}")
        both.worker.sendall(say)
        both.channel.finish()
        assert len(both.lost) == 1
        assert both.lost[0] is not None
        assert not both.channel.open
        return str(both.lost[0])


def test_what_breaks_the_protocol_is_named():
    assert refusal(say=frame(99, b"")) == "word 99 is not a worker's"
    assert refusal(say=frame(Word.INVOKE, b"")) == "word 1 is not a worker's"
    assert refusal(say=answer(sequence=2)) == "RESULT for 2, asked was 1"
    assert refusal(say=answer(sequence=1) * 2) == "44 bytes after the end of RESULT"
    assert refusal(say=answer(sequence=1) + b"x") == "1 bytes after the end of RESULT"
    assert refusal(say=frame(RESULT, b"", sequence=1)) == "RESULT of 0 bytes"
    assert refusal(greet=False, invoke=False, say=answer(sequence=0)) == "RESULT while starting"
    assert refusal(invoke=False, say=answer(sequence=0)) == "RESULT while idle"
    assert refusal(invoke=False, say=GREETING) == "READY while idle"
    assert refusal(say=frame(READY, struct.pack("<QI", 0, 0), sequence=1)) == "READY while busy"
    assert refusal(say=frame(INIT_ERROR, b"{}", sequence=1)) == "INIT_ERROR while busy"


def test_a_length_is_checked_before_anything_is_allocated_for_it():
    over = ANSWER_BYTES_MAX + 64 * 1024 + 1
    for word, length in ((RESULT, over), (RESULT, 2**32 - 1), (ERROR, ERROR_BYTES_MAX + 1)):
        tracemalloc.start()
        told = refusal(say=HEADER.pack(length, word, 0, 0, 1))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert told == f"{Word(word).name} of {length} bytes"
        assert peak < 200_000


def test_an_answer_before_the_whole_invocation_was_read_is_refused():
    with ends() as both:
        both.be_ready()
        both.invoke(bytes(32 << 20))
        both.worker.sendall(answer(sequence=1))
        both.channel.finish()
        assert str(both.lost[0]) == "RESULT before all of the invocation was read"


def test_an_event_larger_than_the_socket_takes_arrives_whole_and_in_order():
    async def main():
        both = Ends(asyncio.get_running_loop())
        both.be_ready()
        parts = [bytes([n % 251]) * 20_000 for n in range(1500)]
        both.invoke(*parts)
        size = 16 + 16 + 5 + sum(map(len, parts))
        got = await asyncio.to_thread(both.read, size)
        assert got[37:] == b"".join(parts)
        both.worker.sendall(answer(b"1", sequence=1))
        both.channel.finish()
        assert [word for word, _, _ in both.heard] == [Word.READY, Word.RESULT]
        both.channel.close()
        both.worker.close()

    asyncio.run(main())


def test_a_worker_that_dies_while_it_is_sent_an_event_is_simply_lost():
    async def main():
        both = Ends(asyncio.get_running_loop())
        both.be_ready()
        both.invoke(bytes(32 << 20))
        both.worker.close()
        for _ in range(100):
            await asyncio.sleep(0)
        assert both.lost == [None]
        both.channel.close()

    asyncio.run(main())


def test_a_worker_gone_before_it_is_handed_anything_is_an_error_of_the_hand_over():
    with ends() as both:
        both.be_ready()
        both.worker.close()
        try:
            both.invoke(b"{}")
        except ConnectionError:
            pass
        else:
            raise AssertionError("nothing was raised")


def test_a_worker_may_say_that_it_cannot_start():
    with ends() as both:
        both.worker.sendall(frame(INIT_ERROR, b'{"errorType":"X"}'))
        both.worker.close()
        both.channel.finish()
        assert both.heard == [(Word.INIT_ERROR, 0, b'{"errorType":"X"}')]
        assert both.lost == [None]


def test_a_worker_told_to_leave_leaves():
    with ends() as both:
        both.be_ready()
        both.channel.dismiss()
        assert HEADER.unpack(both.read(16))[:2] == (0, Word.EXIT)
        both.worker.close()
        both.channel.finish()
        assert both.lost == [None]
