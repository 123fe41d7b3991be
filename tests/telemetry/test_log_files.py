"""A file of lines for each function."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.telemetry import log_files
from streamfaas.telemetry.log_files import LogFiles, newest_first
from streamfaas.telemetry.log_lines import json_line, parsed, text_line
from streamfaas.telemetry.losses import Losses
from streamfaas.telemetry.signals import LogWritten

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
AT = 1_764_100_000_250_000_000

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
LINES = st.builds(
    LogWritten,
    st.just("orders"),
    st.sampled_from(["", "orders#1", "orders#27"]),
    st.sampled_from(["", "8f14e45f-ceea-467f-a8c1-1ab1c5b6f2d9"]),
    st.lists(TEXTS, min_size=1, max_size=4).map("\n".join),
    st.booleans(),
    st.integers(0, 10**6).map(lambda milliseconds: AT + milliseconds * 1_000_000),
    st.sampled_from(["", TRACE]),
)


def line(text="paid", **fields):
    return LogWritten("orders", "orders#1", "an-id", text, False, AT, **fields)


class Files:
    """Files in a folder, and what was told of lines that are lost."""

    def __init__(self, folder, *, max_bytes=1_000_000, keep=2, as_json=False):
        self.folder, self.told = folder / "logs", []
        self.files = LogFiles(
            self.folder,
            max_bytes=max_bytes,
            keep=keep,
            as_json=lambda _: as_json,
            tell=self.told.append,
        )

    def __enter__(self):
        return self.files

    def __exit__(self, *exc):
        self.files.close()

    def read(self, name="orders.log"):
        return (self.folder / name).read_text()


@given(st.lists(LINES, max_size=8))
def test_whatever_a_function_writes_is_read_again_as_it_was(lines):
    written = "".join(map(text_line, lines))
    assert list(parsed("orders", written.split("\n"))) == lines


@given(LINES)
def test_a_line_of_a_json_file_is_one_document(signal):
    document = json_line(signal)
    assert document.count("\n") == 1
    assert isinstance(json.loads(document), dict)


def test_a_document_stays_as_the_function_wrote_it():
    written = '{"timestamp": "2025-11-25T19:46:40.250Z", "level": "INFO", "requestId": "an-id"}'
    assert json_line(line(written)) == written + "\n"
    (found,) = parsed("orders", [written])
    assert (found.line, found.request_id, found.time_ns) == (written, "an-id", AT)
    report = '{"time":"2025-11-25T19:46:40.250Z","type":"platform.report","record":{"requestId":"an-id"}}'
    (found,) = parsed("orders", [report])
    assert (found.platform, found.request_id) == (True, "an-id")


def test_each_function_has_a_file_that_only_its_owner_may_read(tmp_path):
    files = Files(tmp_path)
    with files as put:
        put(line("one"))
        put(LogWritten("thumbs", "thumbs#1", "", "two", False, AT, TRACE))
        put(line("a\nb"))
    assert files.read() == (
        "2025-11-25T19:46:40.250Z orders#1 an-id | one\n"
        "2025-11-25T19:46:40.250Z orders#1 an-id | a\n\tb\n"
    )
    assert files.read("thumbs.log") == f"2025-11-25T19:46:40.250Z thumbs#1 -/{TRACE} | two\n"
    assert (files.folder / "orders.log").stat().st_mode & 0o777 == 0o600
    assert files.folder.stat().st_mode & 0o777 == 0o700


def test_files_are_rotated_by_size_and_the_oldest_go(tmp_path):
    files = Files(tmp_path, max_bytes=500, keep=2)
    with files as put:
        for number in range(100):
            put(line(f"number {number}"))
    assert sorted(each.name for each in files.folder.iterdir()) == [
        "orders.log", "orders.log.1", "orders.log.2",
    ]  # fmt: skip
    assert all(each.stat().st_size <= 500 for each in files.folder.iterdir())
    kept = [each.line for each in newest_first(files.folder, "orders")]
    assert kept == [f"number {number}" for number in range(99, 99 - len(kept), -1)]
    assert len(kept) > 16


def test_a_line_that_is_larger_than_a_file_has_one_of_its_own(tmp_path):
    files = Files(tmp_path, max_bytes=100, keep=9)
    with files as put:
        for text in ("a", "b" * 500, "c"):
            put(line(text))
    assert [each.line[0] for each in newest_first(files.folder, "orders")] == ["c", "b", "a"]


def test_a_file_that_somebody_moves_away_is_made_anew(tmp_path):
    files = Files(tmp_path)
    with files as put:
        put(line("one"))
        while not (files.folder / "orders.log").exists():
            pass
        while put._behind.held:
            pass
        (files.folder / "orders.log").rename(files.folder / "moved")
        put(line("two"))
    assert files.read("moved").endswith("| one\n") or files.read("moved") == ""
    assert files.read().endswith("| two\n")


def test_what_a_file_held_before_a_restart_is_kept_and_a_torn_line_is_ended(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "orders.log").write_text("2025-11-25T19:46:40.250Z orders#1 an-id | hal")
    files = Files(tmp_path)
    with files as put:
        put(line("whole"))
    assert [each.line for each in newest_first(files.folder, "orders")] == ["whole", "hal"]


def test_a_place_where_nothing_can_be_written_is_told_once_and_its_lines_counted(tmp_path):
    (tmp_path / "logs").write_text("in the way")
    files = Files(tmp_path)
    with files as put:
        for _ in range(5):
            put(line())
    assert [each.place for each in files.told] == ["files"]
    assert files.told[0].lines >= 1
    assert os.strerror(errno.EEXIST) in files.told[0].reason


def test_losses_are_told_when_they_are_news_and_summed_up_after_that():
    told, now = [], 0.0
    losses = Losses("files", told.append, clock=lambda: now)
    for _ in range(10):
        losses.lost(2, "full")
    now = 61.0
    losses.lost(1, "full")
    losses.lost(1, "gone")
    losses.lost(1, "gone")
    losses.fine()
    losses.fine()
    assert [(each.lines, each.reason) for each in told] == [
        (2, "full"), (19, "full"), (1, "gone"), (1, "gone"),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_disk_that_is_too_slow_holds_nobody_up(tmp_path):
    """The file is a pipe that nobody reads: writing to it ends where it is full."""
    files = Files(tmp_path)
    files.folder.mkdir()
    path = files.folder / "orders.log"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with files as put:
            held = threading.Thread(target=lambda: [put(line("x" * 1000)) for _ in range(40_000)])
            held.start()
            held.join(20)
            assert not held.is_alive()  # who writes lines is never held up
            assert [each.reason for each in files.told][:1] == [
                f"the disk is too slow ({files.folder})"
            ]
            os.set_blocking(reading, True)
            while os.read(reading, 1 << 20) and put._behind.held:
                pass
            os.close(reading)
            reading = -1
    finally:
        if reading >= 0:
            os.close(reading)


@pytest.mark.root
def test_a_full_disk_loses_lines_in_sight_and_heals(tmp_path):
    """The file is the device that is always full."""
    files = Files(tmp_path)
    files.folder.mkdir()
    path = files.folder / "orders.log"
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
        os.close(os.open(path, os.O_WRONLY))
    except PermissionError:
        pytest.skip("devices may not be made here")
    with files as put:
        put(line("lost"))
        while not files.told:
            pass
        path.unlink()
        put(line("kept"))
    assert files.read().endswith("| kept\n")
    assert [(each.lines, each.reason) for each in files.told] == [
        (1, f"No space left on device ({files.folder})")
    ]


def test_of_many_files_no_more_is_read_than_is_bearable(tmp_path, monkeypatch):
    monkeypatch.setattr(log_files, "READ_BYTES_MAX", 150)
    files = Files(tmp_path, max_bytes=200)
    with files as put:
        for number in range(20):
            put(line(f"number {number:02}"))
    kept = [each.line for each in newest_first(files.folder, "orders")]
    assert kept == ["number 19", "number 18"][: len(kept)]
    assert kept
