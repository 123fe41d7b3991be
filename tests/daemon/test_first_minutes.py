"""The first five minutes of the README, word for word: what it types is typed, what it shows must
be shown, but for times, ids and the like."""

import contextlib
import os
import re
import sys
from pathlib import Path

import pytest

from parts import CHECKOUT
from terminal import PROMPT, Terminal

pytestmark = pytest.mark.slow

_BLOCK = re.compile(r"^```console (\d)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section():
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^## The first five minutes\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


_DIFFERS = re.compile(
    r"(?P<trace>[0-9a-f]{12}…)|(?P<parts>\(queue.*?\))|(?P<ok> 200 )|(?P<number>\d+(\.\d+)?)"
    r"|(?P<left_out>…)|(?P<space>\s+)|(?P<text>[^\d\s…(]+|.)"
)
_STANDS_FOR = {
    "trace": "[0-9a-f]{12}…",
    "parts": r"\([^)]*\)",
    "ok": r"\s+200\s+",
    "number": r"\d+(\.\d+)?",
    "left_out": ".*?",
    "space": r"\s+",
}


def pattern(line):
    """What a line of the README stands for: numbers, times and ids are others each time, what is
    left out is `…`, and `(queue …)` are the parts of a duration that are not nothing."""
    found = _DIFFERS.finditer(line.strip())
    parts = [_STANDS_FOR.get(each.lastgroup, re.escape(each[0])) for each in found]
    return r"(\n|\^C)\s*" + "".join(parts)


def test_the_first_five_minutes_are_as_the_readme_tells(tmp_path):
    blocks = _BLOCK.findall(section())
    assert len(blocks) > 5
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with contextlib.ExitStack() as stack:
        terminals = {}
        for number, body in blocks:
            if number not in terminals:
                terminals[number] = stack.enter_context(Terminal(tmp_path, path))
                terminals[number].expect(re.escape(PROMPT))
            follow(terminals[number], body)


def follow(terminal, body):
    """Types the commands of a block, and sees what it shows: in its order, or, where nothing is
    typed and so it is by itself, in whatever order that comes."""
    if not body.startswith((PROMPT, "^C")):
        lines = [line for line in body.splitlines() if line.strip() not in {"", "…"}]
        terminal.expect_all([pattern(line) for line in lines])
        return
    for line in body.splitlines():
        if line.startswith(PROMPT):
            terminal.type(line.removeprefix(PROMPT))
        elif line == "^C":
            terminal.type("\x03", enter=False)
        elif line.strip() not in {"", "…"}:
            terminal.expect(pattern(line))
    if body.splitlines()[-1].startswith(PROMPT) and "streamfaas" not in body.splitlines()[-1]:
        terminal.expect(re.escape(PROMPT))


@pytest.mark.parametrize(
    ("line", "shown", "same"),
    [
        (
            "  o-0@0 → h  200  1.3 ms  (queue 1.0, run 0.1)",
            "  o-0@0 → h  200  27.0 ms  (run 2.0)",
            1,
        ),
        ("  o-0@0 → h  200  1.3 ms  (queue 1.0, run 0.1)", "  o-0@0 → h  400  27.0 ms", 0),
        ("trace d33f58db3958…", "trace 000000000000…", 1),
        ("21:46:02 ready", "01:00:59 ready", 1),
        ("21:46:02 ready", "01:00:59 not ready", 0),
        ("KeyError: 'price'  handler.py:13", "KeyError: 'total'  handler.py:13", 0),
        ("a … c", "a b b c", 1),
    ],
)
def test_a_line_stands_for_those_that_differ_in_numbers_alone(line, shown, same):
    assert bool(re.search(pattern(line) + "$", f"\n{shown}")) == bool(same)
