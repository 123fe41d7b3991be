"""What differs between two configurations: by name, and no more than that."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates import make_certificate
from config_project import project, valid  # noqa: F401
from streamfaas.config.diff import apply, certificates, diff

BASE = """version: 1
limits: {concurrency: 20}
connections:
  main: {type: kafka, brokers: [k1:9092]}
  spare: {type: kafka, brokers: [k2:9092]}
functions:
  f:
    code: code
    handler: app.main
    memory: 256MB
    env: {SIZE: "1"}
    triggers:
      t: {type: kafka, connection: main, topics: [a], start: latest, batch: {size: 5}}
      u: {type: memory, topic: b, on_failure: {type: kafka, connection: spare, topic: dead}}
  g: {code: code, handler: app.main}
"""

OPTIONS = {
    "limits: {concurrency: 20}\n": ("", "limits: {concurrency: 30}\n", "shutdown: {grace: 7s}\n"),
    "[k1:9092]": ("[k3:9092]", "[k1:9092], tls: {}"),
    "    memory: 256MB\n": ("", "    memory: 512MB\n", "    concurrency: {max: 3}\n"),
    '    env: {SIZE: "1"}\n': ("", '    env: {SIZE: "2", MORE: x}\n'),
    "batch: {size: 5}": ("batch: {size: 6}", "filter: {value: {a: [1]}}", "group: other"),
    "      t: ": ("      s: ",),
    "type: memory, topic: b": ("type: memory, topic: c", "type: memory, rate: 5, topic: b"),
    ", on_failure: {type: kafka, connection: spare, topic: dead}": (
        "",
        ", on_failure: {type: function, function: g}",
    ),
    "  g: {code: code, handler: app.main}\n": (
        "  g: {code: code, handler: app.main, asynchronous: {retries: 1}}\n",
        "  g: {code: code, handler: app.main, triggers: {m: {type: memory, topic: q}}}\n",
        "  g: {code: code, handler: app.main}\n  h: {code: code, handler: app.main}\n",
    ),
}


def changed(*choices):
    """The configuration above, with some of its parts in the place of which others stand."""
    text = BASE
    for (part, others), choice in zip(OPTIONS.items(), choices, strict=True):
        text = text.replace(part, (part, *others)[choice])
    return text


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The configuration of a text, checked in a folder of its own."""
    base = tmp_path_factory.mktemp("project")
    (base / "code").mkdir()
    (base / "code" / "app.py").write_text("def main(event, context): return event\n")
    return cache(lambda text: valid(text, base))


texts = st.tuples(*(st.integers(0, len(others)) for others in OPTIONS.values())).map(
    lambda choices: changed(*choices)
)


@given(old=texts, new=texts)
def test_what_differs_leads_from_one_to_the_other(made, old, new):
    found = diff(made(old), made(new))
    assert dict(apply(made(old), found)) == dict(made(new))
    assert bool(found) == (dict(made(old)) != dict(made(new)))


@given(text=texts)
def test_nothing_differs_from_itself(made, text):
    found = diff(made(text), made(text))
    assert not found
    assert set(found.untouched) == names_of(made(text))


@given(old=texts, new=texts)
def test_a_mapping_is_touched_or_not_and_never_both(made, old, new):
    found = diff(made(old), made(new))
    touched = {part.name: part.fate for part in found.mappings}
    assert not touched.keys() & set(found.untouched)
    assert names_of(made(new)) == {n for n, fate in touched.items() if fate != "removed"} | set(
        found.untouched
    )


def names_of(config):
    triggers = {f"{function}/{trigger}" for function, trigger, _ in config.mappings()}
    return triggers | {f"{function}/asynchronous" for function in config.functions}


@pytest.fixture
def compared(made):
    return lambda old, new: diff(made(old), made(new))


def touched(found):
    return {part.name: part.fate for part in found.mappings}


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("    memory: 256MB\n", "    memory: 512MB\n"),
        ('    env: {SIZE: "1"}\n', '    env: {SIZE: "2"}\n'),
        ("handler: app.main\n    memory", "handler: app.main\n    timeout: 9s\n    memory"),
        ("    memory: 256MB\n", "    memory: 256MB\n    concurrency: {warm: 1}\n"),
    ],
)
def test_what_only_workers_are_made_of_touches_no_mapping(compared, part, instead):
    found = compared(BASE, BASE.replace(part, instead))
    assert [part.name for part in found.functions] == ["f"]
    assert not found.mappings


def test_how_many_may_run_is_what_the_lanes_of_a_backlog_depend_on(compared):
    wider = BASE.replace("    memory", "    concurrency: {max: 3}\n    memory")
    assert touched(compared(BASE, wider)) == {"f/asynchronous": "changed"}


def test_a_connection_touches_who_reads_by_it_and_who_sends_by_it(compared):
    found = compared(BASE, BASE.replace("k1:", "k9:"))
    assert touched(found) == {"f/t": "changed"}
    assert found.mappings[0].by == ("main",)
    assert found.mappings[0].keys == ()
    assert touched(compared(BASE, BASE.replace("k2:", "k9:"))) == {"f/u": "changed"}


def test_a_function_that_goes_takes_its_mappings_with_it(compared):
    gone = BASE.partition("  f:\n")[0] + "  g: {code: code, handler: app.main}\n"
    found = compared(BASE, gone)
    assert [(part.name, part.fate) for part in found.functions] == [("f", "removed")]
    assert touched(found) == dict.fromkeys(("f/asynchronous", "f/t", "f/u"), "removed")


def test_each_changed_key_is_told_as_it_would_be_written(compared):
    found = compared(
        BASE, BASE.replace("256MB", "1GB").replace("batch: {size: 5}", "session_timeout: 1m")
    )
    keys = [key for part in (*found.functions, *found.mappings) for key in part.keys]
    assert [(".".join(key.path), key.old, key.new) for key in keys] == [
        ("functions.f.memory", "256MB", "1GB"),
        ("functions.f.triggers.t.batch.size", 5, 100),
        ("functions.f.triggers.t.session_timeout", "30s", "1m"),
    ]


def test_a_secret_that_is_another_by_now_is_a_change_and_is_not_shown(project):  # noqa: F811
    text = BASE.replace(
        "[k1:9092]",
        "[k1:9092], tls: {}, sasl: {mechanism: PLAIN, username: u, password: '${PW}'}",
    )
    (project / "api").write_text("first")
    text = text.replace('{SIZE: "1"}', "{KEY: '${file:api}'}")
    old = valid(text, project, PW="hunter1")
    (project / "api").write_text("second")
    new = valid(text, project, PW="hunter2")
    found = diff(old, new)
    assert [part.name for part in found.connections] == ["main"]
    assert touched(found) == {"f/t": "changed"}
    keys = (*found.connections[0].keys, *found.functions[0].keys)
    assert [(key.path[-1], key.old, key.new) for key in keys] == [
        ("password", "***", "***"),
        ("KEY", "***", "***"),
    ]
    assert not any(word in repr(keys) for word in ("hunter", "first", "second"))


@pytest.mark.parametrize("name", ["API_TOKEN", "DB"])
def test_a_variable_that_looks_like_a_secret_is_not_shown(project, name):  # noqa: F811
    texts = [
        BASE.replace('{SIZE: "1"}', f"{{{name}: 'postgres://u:{word}@h/db'}}")
        for word in ("hunter1", "hunter2")
    ]
    found = diff(*(valid(text, project) for text in texts))
    [key] = found.functions[0].keys
    assert (key.path[-1], key.old, key.new) == (name, "***", "***")


def test_a_certificate_that_was_renewed_is_a_change_of_its_connection(project):  # noqa: F811
    make_certificate(project, "ca")
    text = BASE.replace("[k1:9092]", "[k1:9092], tls: {ca: ca.pem}")
    config = valid(text, project)
    assert certificates(config) == {project / "ca.pem"}
    assert not diff(config, config, {project / "other.pem"})
    found = diff(config, config, {project / "ca.pem"})
    assert touched(found) == {"f/t": "changed"}
    assert found.connections[0].keys[0].new == f"{project / 'ca.pem'} (what is in it)"
    assert apply(config, found) == config


def test_encryption_without_options_is_told_of(compared):
    found = compared(BASE, BASE.replace("[k1:9092]", "[k1:9092], tls: {}"))
    assert [key.path for key in found.connections[0].keys] == [("connections", "main", "tls")]


def test_a_function_changes_with_its_connection(project):  # noqa: F811
    aws = """version: 1
connections: {store: {type: aws, region: eu-central-1}}
functions:
  f: {code: code, handler: app.main, connection: store}
  g: {code: code, handler: app.main}
"""
    old, new = valid(aws, project), valid(aws.replace("eu-central-1", "eu-west-1"), project)
    change = diff(old, new)
    assert [(part.name, part.fate, part.keys, part.by) for part in change.functions] == [
        ("f", "changed", (), ("store",))
    ]
    assert apply(old, change) == new
