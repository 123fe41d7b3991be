"""`streamfaas top`: what keys do, that a look fits its screen, and that the terminal is left well."""

import fcntl
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cli.test_status import LANE, TRIGGER, VIEW, blocked
from status_server import answering
from streamfaas.cli.main import main
from streamfaas.cli.top import State, frame, keys_of

NAMES = ["a/b", "c/d", "e/f"]
KEYS = st.sampled_from(["up", "down", "enter", "back", "erase", "/", "f", "t", "e", "x", "c"])


def pressed(*keys, names=NAMES, state=None):
    found = state or State()
    for key in keys:
        found = found.pressed(key, names)
    return found


@given(st.lists(KEYS, max_size=30), st.lists(st.sampled_from(NAMES), max_size=3, unique=True))
def test_whatever_is_pressed_the_row_is_one_of_the_list(keys, names):
    state = State()
    for key in keys:
        state = state.pressed(key, names)
        assert 0 <= state.row <= max(0, len(names) - 1)
        assert not state.over
        assert state.shown in {"", *names}


def test_keys_choose_a_list_a_row_and_its_details():
    assert pressed("f").list == "functions"
    assert pressed("down", "down", "down", "up").row == 1
    assert pressed("down", "enter").shown == "c/d"
    assert pressed("down", "enter", "back").shown == ""
    assert pressed("enter", names=[]).shown == ""
    assert pressed("q").over


def test_a_filter_takes_letters_until_enter_and_is_dropped_by_escape():
    state = pressed("/", "q", "f", "x", "erase")
    assert (state.wanted, state.typing, state.over) == ("qf", True, False)
    assert pressed("enter", state=state) == State(wanted="qf")
    assert pressed("back", state=state) == State()


def test_bytes_of_a_terminal_are_keys():
    assert keys_of(b"\x1b[A\x1bOBq\r\x1b") == ["up", "down", "q", "enter", "back"]
    assert keys_of(b"\xff\x7f/") == ["erase", "/"]


def drawn(view, state, width=80, height=24):
    console = Console(file=io.StringIO(), width=width, height=height, markup=False)
    for part in frame(view, state, width, height):
        console.print(part)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 12)])
@pytest.mark.parametrize("list_", ["functions", "triggers", "errors"])
@pytest.mark.parametrize("shown", ["", "enrich/orders", "enrich", "gone/x"])
def test_a_look_fits_the_screen(width, height, list_, shown):
    lanes = [{**LANE, "name": f"orders-{at}", "state": "blocked"} for at in range(50)]
    many = {f"f{at:03}/t": TRIGGER for at in range(300)}
    view = {**VIEW, "triggers": {**many, "enrich/orders": {**TRIGGER, "lanes": lanes}}}
    view["detail"] = {
        "errors": [{"lane": "o-0", "first": 1, "last": 2, "type": "E", "message": "x\n" * 99}] * 5
    }
    told = drawn(view, State(list_, row=250, shown=shown), width, height)
    assert len(told) <= height
    assert all(len(line) <= width for line in told)


def test_the_row_that_is_chosen_is_in_sight():
    view = {**VIEW, "triggers": {f"f{at:03}/t": TRIGGER for at in range(300)}}
    for row in (0, 5, 150, 299):
        assert any(line.startswith(f"f{row:03}/t") for line in drawn(view, State(row=row)))


def test_errors_are_those_that_need_attention():
    told = drawn(blocked(), State("errors"))
    assert "enrich/orders  blocked  KeyError: 'total'" in told
    assert "no errors" in drawn(VIEW, State("errors"))
    assert "no triggers like 'zzz'" in drawn(VIEW, State(wanted="zzz"))


def test_without_a_terminal_it_is_one_look(tmp_path):
    socket = tmp_path / "s.sock"
    with answering(socket, json.dumps(VIEW).encode()) as asked:
        result = CliRunner().invoke(main, ["top", "--socket", str(socket)])
    assert result.exit_code == 0
    assert len(asked) == 1
    assert "enrich/orders" in result.output
    assert "\x1b" not in result.output


class Terminal:
    """`top` in a terminal of 80 by 24."""

    def __init__(self, socket):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.theirs, self.seen = theirs, b""
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamfaas", "top", "--socket", str(socket)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )

    def until(self, text, seconds=30.0):
        os.set_blocking(self.ours, False)
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            try:
                self.seen += os.read(self.ours, 65_536)
            except BlockingIOError:
                time.sleep(0.02)

    def press(self, keys):
        os.write(self.ours, keys)

    def ended(self):
        """The status, once it has ended and left the terminal as it was."""
        status = self.process.wait(30)
        assert termios.tcgetattr(self.theirs) == self.before
        self.until(b"\x1b[?1049l")  # the other screen is left
        self.until(b"\x1b[?25h")  # and the cursor is shown
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "status"), [(b"fq", 0), (signal.SIGINT, 0), (None, 69)])
def test_the_terminal_is_left_as_it_was_by_q_by_ctrl_c_and_when_the_daemon_ends(
    tmp_path, keys, status
):
    socket = tmp_path / "s.sock"
    with answering(socket, json.dumps(VIEW).encode()):
        terminal = Terminal(socket)
        try:
            terminal.until(b"enrich/orders")
            if keys is not None:
                if isinstance(keys, bytes):
                    terminal.press(keys)
                else:
                    terminal.process.send_signal(keys)
                assert terminal.ended() == status
        except BaseException:
            terminal.close()
            raise
    try:
        assert terminal.ended() == status
    finally:
        terminal.close()
