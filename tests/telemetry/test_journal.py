"""Entries of systemd's journal, as a socket of ours receives them."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.outcome import Failure, Fault, Report, Success
from streamfaas.flow.record import Lane
from streamfaas.telemetry import signals
from streamfaas.telemetry.journal import Journal, datagram, is_ours, message_id
from streamfaas.telemetry.signals import LogWritten

LANE = Lane("orders/clicks", "orders.v1-0")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def understood(data):
    """The fields of an entry, by the protocol's own words (JOURNAL_NATIVE_PROTOCOL)."""
    found, at = {}, 0
    while at < len(data):
        end = data.index(b"\n", at)
        name, equals, value = data[at:end].partition(b"=")
        at = end + 1
        if not equals:
            (size,) = struct.unpack_from("<Q", data, at)
            value = data[at + 8 : at + 8 + size]
            assert data[at + 8 + size : at + 9 + size] == b"\n"
            at += 9 + size
        found[name.decode()] = value.decode()
    return found


class Listener:
    """What stands where journald does."""

    def __init__(self, folder):
        self.path = folder / "journal"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(10)
        self.told = []

    def receive(self):
        data, rights, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for _, _, packed in rights:
            (memory,) = array.array("i", packed)
            assert not data
            data = os.pread(memory, 1 << 24, 0)
            with pytest.raises(PermissionError):
                os.ftruncate(memory, 0)
            os.close(memory)
        return understood(data)


@contextlib.contextmanager
def journal(folder, **options):
    listener = Listener(folder)
    made = Journal(listener.told.append, path=listener.path, **options)
    try:
        yield made, listener
    finally:
        made.close()
        listener.socket.close()


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z_]{0,9}", fullmatch=True), st.text(min_size=1)))
def test_whatever_is_in_a_field_arrives_as_it_is(entry):
    shown = {
        name: value.encode("utf-8", "backslashreplace").decode() for name, value in entry.items()
    }
    assert understood(datagram(entry)) == shown


def test_a_line_of_a_function_has_a_field_for_each_thing(tmp_path):
    with journal(tmp_path) as (put, listener):
        put(LogWritten("orders", "orders#1", "an-id", "[ERROR]\tno\ntotal", False, 1, TRACE))
        assert listener.receive() == {
            "MESSAGE": "[ERROR]\tno\ntotal",
            "PRIORITY": "3",
            "MESSAGE_ID": message_id("LogWritten"),
            "STREAMFAAS_EVENT": "LogWritten",
            "SYSLOG_IDENTIFIER": "streamfaas",
            "STREAMFAAS_FUNCTION": "orders",
            "STREAMFAAS_WORKER": "orders#1",
            "STREAMFAAS_REQUEST_ID": "an-id",
            "STREAMFAAS_LINE": "function",
            "TRACE_ID": TRACE,
        }


def test_a_signal_is_told_in_the_console_s_words_with_what_it_is_about(tmp_path):
    report = Report("orders#1", 0.0031)
    failed = Failure(Fault.FUNCTION, "KeyError", "'total'", report=report)
    with journal(tmp_path) as (put, listener):
        put(signals.InvocationEnded("an-id", "orders", LANE, 5, 0, 4, 0, failed))
        told = listener.receive()
        assert told.pop("MESSAGE").startswith("✗ orders/clicks orders.v1-0 @0..4  5 records")
        assert told == {
            "PRIORITY": "3",
            "MESSAGE_ID": message_id("InvocationEnded"),
            "STREAMFAAS_EVENT": "InvocationEnded",
            "SYSLOG_IDENTIFIER": "streamfaas",
            "STREAMFAAS_FUNCTION": "orders",
            "STREAMFAAS_TRIGGER": "orders/clicks",
            "STREAMFAAS_LANE": "orders.v1-0",
            "STREAMFAAS_REQUEST_ID": "an-id",
        }
        put(signals.SourceChanged("orders/clicks", "degraded", "refused"))
        put(signals.DaemonStepped("ready", "all of it"))
        put.note("the end")
        assert [listener.receive()["PRIORITY"] for _ in range(3)] == ["4", "6", "6"]


def test_what_a_console_does_not_show_is_no_entry(tmp_path):
    with journal(tmp_path, quiet=True) as (put, listener):
        put(signals.LaneOpened(LANE))
        put(LogWritten("orders", "orders#1", "an-id", "paid", False, 1))
        put(signals.InvocationEnded("an-id", "orders", LANE, 5, 0, 4, 0, Success(b"")))
        put(signals.LaneHealed(LANE))
        assert "healed" in listener.receive()["MESSAGE"]


def test_an_entry_that_is_too_large_for_a_datagram_comes_in_a_sealed_file(tmp_path):
    text = "x" * 3_000_000
    with journal(tmp_path) as (put, listener):
        put(LogWritten("orders", "orders#1", "an-id", text, False, 1))
        assert listener.receive()["MESSAGE"] == text


def test_a_journal_that_is_not_there_is_told_once_and_taken_up_again(tmp_path):
    with journal(tmp_path) as (put, listener):
        listener.socket.close()
        listener.path.unlink()
        for _ in range(3):
            put.note("lost")
        while not listener.told:
            pass
        back = Listener(tmp_path)
        while True:
            put.note("kept")
            with contextlib.suppress(BlockingIOError):
                back.socket.setblocking(False)
                assert back.receive()["MESSAGE"] == "kept"
                break
        back.socket.close()
    assert listener.told[0].place == "journal"
    assert len(listener.told) <= 3  # not there, well again, and gone with this test


def test_kinds_of_signals_have_ids_that_stay():
    kinds = ["InvocationEnded", "LogWritten", "DaemonStepped"]
    assert len({message_id(kind) for kind in kinds}) == 3
    assert message_id("LogWritten") == "0a7674f5b28e5d219986086aa39ad791"


@pytest.mark.parametrize("matching", [True, False])
def test_the_journal_is_known_by_its_device_and_inode(matching):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat((ours if matching else theirs).fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_ours(environ, ours.fileno(), ours.fileno()) is matching
        assert not is_ours({}, ours.fileno(), ours.fileno())
    reading, writing = os.pipe()
    status = os.fstat(writing)
    environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    assert not is_ours(environ, writing, writing)  # a pipe is not the journal
    os.close(reading)
    os.close(writing)
