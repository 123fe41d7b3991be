"""The models: frozen, comparable, and silent about secrets."""

import json

import pydantic
import pytest

from certificates import make_certificate
from config_project import HEAD, KAFKA, project, valid  # noqa: F401

SASL = ("brokers:", "tls: {password: p1, key: client.key, certificate: client.pem}, sasl: {mechanism: PLAIN, username: u, password: hunter2}, brokers:")  # fmt: skip


def test_nothing_of_a_configuration_can_be_changed(project):  # noqa: F811
    config = valid(KAFKA + "}", project)
    with pytest.raises(pydantic.ValidationError):
        config.limits.concurrency = 3
    with pytest.raises(TypeError):
        config.functions["g"] = config.functions["f"]
    with pytest.raises(TypeError):
        config.functions["f"].triggers["u"] = None
    with pytest.raises(TypeError):
        config.functions["f"].env["A"] = "b"


def test_the_same_text_gives_equal_values_and_another_does_not(project):  # noqa: F811
    one, two = valid(KAFKA + "}", project), valid(KAFKA + "}", project)
    assert one == two
    other = valid(KAFKA + ", batch: {size: 7}}", project)
    assert one.functions["f"] != other.functions["f"]
    assert one.connections == other.connections


def test_secrets_are_in_no_output(project):  # noqa: F811
    make_certificate(project, "client")
    config = valid(KAFKA.replace(*SASL) + "}", project)
    sasl = config.connections["main"].sasl
    assert sasl.password.get_secret_value() == "hunter2"
    for shown in (
        repr(config),
        str(config),
        json.dumps(config.masked()),
        repr(config.connections),
        str(sasl),
    ):
        assert "hunter2" not in shown
        assert "p1" not in shown
    assert config.masked()["connections"]["main"]["sasl"]["password"] == "***"


HOOK = "{type: http, url: 'https://x/y', headers: {Authorization: tell, X-Colour: red}, secret: '${PW}'}"  # fmt: skip


def test_secrets_of_destinations_and_filters_are_in_no_output(project):  # noqa: F811
    (project / "known").write_text("from-a-file")
    config = valid(
        KAFKA + f", on_success: {HOOK}, filter: {{value: {{who: ['${{file:known}}']}}}}}}",
        project,
        PW="whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
    )
    trigger = config.functions["f"].triggers["t"]
    assert trigger.on_success.headers["Authorization"] == "tell"
    assert trigger.filter == ('{"value":{"who":["from-a-file"]}}',)
    shown = repr(config) + json.dumps(config.masked())
    for secret in ("whsec_", "tell", "from-a-file"):
        assert secret not in shown
    assert "red" in shown


def test_a_masked_configuration_is_one_again(project):  # noqa: F811
    config = valid(
        KAFKA + ", retries: {max: 3, max_age: 2d, bisect: false}, partial_failures: true,"
        " on_failure: {type: function, function: g}, parallel: {per_partition: 3},"
        " filter: {value: {total: [{numeric: ['>', 0.5]}]}}, on_success:"
        " {type: http, url: 'https://x/y', timeout: 1s, headers: {X-Colour: red}}}\n"
        "      u: {type: memory, topic: a, records: 5}\n"
        "      v: {type: object-store, via: directory, path: inbox, bucket: inbox, settle: 200ms}\n"
        "    asynchronous: {max_age: 1h, on_success: {type: kafka, connection: main, topic: b}}\n"
        "  g: {code: code, handler: app.main}\n",
        project,
    )

    def without_nothing(value):
        if isinstance(value, dict):
            return {
                key: without_nothing(each)
                for key, each in value.items()
                if each not in (None, "", [])
            }
        return value

    again = valid(json.dumps(without_nothing(config.masked())), project)
    assert again == config


def test_memory_is_told_in_mebibytes(project):  # noqa: F811
    assert valid(HEAD + "    memory: 1GB\n", project).functions["f"].memory_mb == 1024
