"""`streamfaas explain` and `streamfaas schema`."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamfaas.cli.main import main
from streamfaas.config import keys
from streamfaas.config.schema import schema
from streamfaas.docs import explanations, topics


def explain(*words):
    return CliRunner().invoke(main, ["explain", *words])


def test_a_code_is_explained_with_cause_and_mend():
    result = explain("sf1042")
    assert result.exit_code == 0
    assert result.output == (
        "SF1042  Over or under a limit\n"
        "\n"
        "A number, size, duration, text or list is outside of what is allowed. Limits that Lambda\n"
        "has are the same here: 10,000 records and 300s for a batch, 6MB for an event, 900s for a\n"
        "timeout, 10240MB of memory; 10 patterns of a filter, 60s to 7d for `retries.max_age`, 2\n"
        "retries and 6h for asynchronous invocations.\n"
        "\n"
        "Stay within the limits that the message names.\n"
    )


def test_a_key_is_explained_by_its_whole_path_or_its_end():
    told = (
        "functions.<name>.triggers.<name>.batch.window   (kafka, kinesis, dynamodb, sqs, memory)\n"
        "\n"
        "How long to wait for more records. 0s takes what is there and never waits.\n"
        "\n"
        "takes     a duration from 0s to 300s\n"
        "default   0s\n"
    )
    for word in ("batch.window", "window", "functions.orders.triggers.orders.batch.window"):
        assert explain(word).output == told


def test_a_key_without_default_says_so():
    assert "default   none: it must be given" in explain("handler").output


def test_a_block_lists_its_keys():
    assert "keys      ca, certificate, key, password" in explain("tls").output
    assert "keys      code, handler, runtime" in explain("functions").output


def test_keys_that_differ_are_told_one_by_one():
    output = explain("type").output
    assert "on_failure.type" in output
    assert "connections.<name>.type" in output


@pytest.mark.parametrize(
    "word", [*explanations(), *topics(), *sorted({key.path[-1] for key in keys.known()})]
)
def test_every_code_topic_and_key_is_explained(word):
    result = explain(word)
    assert result.exit_code == 0
    assert len(result.output) > 40


def mentioned():
    """What the manual, the code and the README name after `streamfaas explain`, and codes."""
    root = Path(__file__).parents[2]
    paths = [*root.glob("streamfaas/**/*.py"), *root.glob("streamfaas/**/*.md")]
    for path in (*paths, *root.glob("deploy/**/*.y*ml"), root / "README.md"):
        yield from re.findall(r"streamfaas explain ([A-Za-z0-9][\w.-]*\w)", path.read_text())
    for path in paths:
        yield from re.findall(r'(?:Problem\(\s*|code=)"([\w-]+)"', path.read_text())
        yield from re.findall(r"SF\d{4}", path.read_text())


def test_whatever_is_said_to_be_explained_is():
    words = set(mentioned()) - {"KEY", "WORD"}
    assert {"SF3002", "traces", "metrics-listen", "function-memory"} <= words
    assert [word for word in sorted(words) if explain(word).exit_code] == []


def test_a_word_that_nobody_knows_is_answered_with_the_nearest():
    result = explain("isolaton")
    assert result.exit_code == 2
    assert (
        result.stderr == "streamfaas: there is nothing about 'isolaton'; did you mean isolation?\n"
    )


def test_a_word_that_is_like_no_other_is_told_where_the_words_are():
    assert explain("qqqq").stderr == (
        "streamfaas: there is nothing about 'qqqq'; `streamfaas explain` lists the words\n"
    )


def test_without_a_word_the_words_are_listed():
    result = explain()
    assert result.exit_code == 0
    listed = result.output.partition("\n\n")[2].replace("\n", " ").split(",")
    assert [word.strip() for word in listed] == sorted(topics())


def test_the_words_that_a_blocked_lane_names_are_there():
    assert "blocked" in topics()
    assert "on_failure" in topics()["blocked"]
    assert "retention" in topics()["blocked"]
    assert "streamfaas skip" in topics()["blocked"]


def test_why_nothing_is_assigned_yet_is_there():
    assert "instance" in topics()["connecting"]


def test_schema_prints_the_schema():
    assert json.loads(CliRunner().invoke(main, ["schema"]).output) == schema()


def test_a_destination_is_explained_by_its_name():
    for word in ("destinations", "sns", "s3"):
        assert "on_failure" in topics()[word]
        assert "destination" in topics()[word]
