"""The schema says what the models read."""

import json
from pathlib import Path

import pytest

from config_project import HEAD, KAFKA, found, project  # noqa: F401
from schema_check import errors
from streamfaas.config import document, keys
from streamfaas.config.schema import schema

SNAPSHOT = Path(__file__).with_name("schema.json")
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_the_schema_is_the_one_that_was_looked_at():
    """After a change: streamfaas schema > tests/config/schema.json, and look at the difference."""
    assert json.loads(SNAPSHOT.read_text()) == schema()


def test_it_is_draft_07():
    assert schema()["$schema"] == "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_examples_fit_it(path):
    root, _ = document.parse(path.read_text())
    assert list(errors(schema(), document.plain(root))) == []


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "    memry: 1GB\n",
        HEAD + "    memory: 128\n",
        HEAD + "    isolation: strict\n",
        HEAD + "    env: {1A: x}\n",
        HEAD + "    concurrency: {warm: -1}\n",
        HEAD.replace("  f:", "  a b:"),
        HEAD.replace("version: 1", "version: 2"),
        KAFKA.replace(", start: latest", "") + "}",
        KAFKA + ", batch: {size: 0}}",
        KAFKA + ", batch: {window: 10}}",
        KAFKA + ", retries: {backoff: 1s}}",
        KAFKA + ", retries: lamda}",
        KAFKA + ", retries: {max: -1}}",
        KAFKA + ", retries: {max_age: 30}}",
        KAFKA + ", parallel: 4}",
        KAFKA + ", parallel: {per_partition: 101}}",
        KAFKA + ", filter: 7}",
        KAFKA + ", filter: [" + "{}, " * 11 + "]}",
        KAFKA + ", on_success: {type: sqs, queue: q}}",
        KAFKA + ", on_success: {type: http, url: x}}",
        HEAD + "    asynchronous: {retries: 3}\n",
        HEAD + "    asynchronous: {dead_letter: {type: file}}\n",
        HEAD
        + "    triggers:\n      t: {type: object-store, via: directory, path: inbox, bucket: inbox, "
        "retries: {bisect: true}}\n",
        KAFKA.replace("[k1:9092]", "[]") + "}",
        KAFKA.replace("k1:9092", "k1") + "}",
        KAFKA.replace("type: kafka, c", "type: kinesis, c") + "}",
    ],
)
def test_what_the_models_refuse_for_its_form_the_schema_refuses_too(project, text):  # noqa: F811
    root, _ = document.parse(text)
    assert found(text, project)
    assert list(errors(schema(), document.plain(root)))


def test_every_key_is_described():
    for key in keys.known():
        assert key.field.description or key.path[-1] == "type", key.path
        assert key.says
