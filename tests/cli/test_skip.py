"""`streamfaas skip`: where nothing can be skipped."""

import json

import pytest
from click.testing import CliRunner

from status_server import answering
from streamfaas.cli.main import main

HELD_UP = (
    "accepted events hold up no others: each is given up by itself; "
    "functions.f.asynchronous (retries, max_age) say when"
)
BACK = (
    "2 that failed went back, to be tried again, and hold up only their key; "
    "give the trigger an on_failure and retries.max: streamfaas reload"
)


@pytest.mark.parametrize(
    ("trigger", "returned", "told"),
    [
        ("f/orders", 0, "nothing waits to be tried again"),
        ("f/asynchronous", 1, HELD_UP),
        ("f/mails", 2, BACK),
    ],
)
def test_it_says_why_nothing_was_skipped(tmp_path, trigger, returned, told):
    socket = tmp_path / "s.sock"
    with answering(socket, json.dumps({"skipped": [], "returned": returned}).encode()):
        result = CliRunner().invoke(main, ["skip", trigger, "--socket", str(socket)])
    assert (result.exit_code, result.stderr) == (1, f"streamfaas: {trigger}: {told}\n")
