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


@pytest.mark.parametrize(
    ("trigger", "told"),
    [("f/orders", "nothing waits to be tried again"), ("f/asynchronous", HELD_UP)],
)
def test_it_says_why_nothing_was_skipped(tmp_path, trigger, told):
    socket = tmp_path / "s.sock"
    with answering(socket, json.dumps({"skipped": []}).encode()):
        result = CliRunner().invoke(main, ["skip", trigger, "--socket", str(socket)])
    assert (result.exit_code, result.stderr) == (1, f"streamfaas: {trigger}: {told}\n")
