"""What is put in for `${…}`, and that it is put in once and never shown."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_project import HEAD, found, project, valid  # noqa: F401
from streamfaas.config import document
from streamfaas.config.interpolate import interpolate

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def filled(text, base=None, **environ):
    """What a value becomes, and the problems."""
    root = document.Table(1, 1, {"a": document.Scalar(text, 1, 4)}, {"a": (1, 1)})
    problems = interpolate(root, base, environ)
    return root.values["a"].value, [problem.code for problem in problems]


@given(NAMES, VALUES)
def test_a_variable_is_put_in_as_it_is_and_never_looked_at_again(name, value):
    assert filled(f"<${{{name}}}>", **{name: value}) == (f"<{value}>", [])


@given(VALUES.filter(lambda text: "$" not in text))
def test_text_without_a_dollar_stays(text):
    assert filled(text) == (text, [])


@given(VALUES)
def test_escaped_text_stays(text):
    assert filled(text.replace("$", "$$")) == (text, [])


@given(VALUES, st.dictionaries(NAMES, VALUES, max_size=3))
def test_any_text_is_filled_in_or_told_of(text, environ):
    value, problems = filled(text, **environ)
    assert isinstance(value, str) != bool(problems)


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("${A}${B}", {"A": "x", "B": "y"}, "xy"),
        ("${A}", {"A": ""}, ""),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A:-d}", {"A": "x"}, "x"),
        ("${A:-}", {}, ""),
        ("${A:-a:b}", {}, "a:b"),
        ("${file:-d}", {}, "d"),
        ("${credential:-d}", {"credential": "x"}, "x"),
        ("${A:?needed}", {"A": "x"}, "x"),
        ("$$", {}, "$"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$$$${A}", {"A": "x"}, "$${A}"),
        ("$A", {"A": "x"}, "$A"),
        ("a$", {}, "a$"),
        ("${A}", {"A": "${B}", "B": "y"}, "${B}"),
        ("${A}", {"A": "$$"}, "$$"),
    ],
)
def test_the_forms_mean_what_they_say(text, environ, value):
    assert filled(text, **environ) == (value, [])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("${A}", "SF1030"), ("${A:?}", "SF1030"), ("${A:?why}", "SF1030"),
        ("${", "SF1031"), ("${}", "SF1031"), ("${1}", "SF1031"), ("${A B}", "SF1031"), ("${A:-${B}}", "SF1031"),
        ("${é}", "SF1031"), ("${A:+x}", "SF1031"), ("${env:A}", "SF1031"), ("${credential:..}", "SF1031"),
        ("${credential:a/b}", "SF1031"), ("${credential:x}", "SF1032"), ("${file:\0}", "SF1031"),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_in_is_told(text, code):
    assert filled(text) == (None, [code])


def test_credentials_and_files_lose_the_newline_at_their_end(tmp_path):
    (tmp_path / "one").write_text("secret\n")
    (tmp_path / "two").write_text("a\n\n")
    (tmp_path / "three").write_bytes(b"dos\r\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert filled("${credential:one}", tmp_path, **environ) == ("secret", [])
    assert filled("${file:two}", tmp_path) == ("a\n", [])
    assert filled(f"${{file:{tmp_path}/three}}", tmp_path) == ("dos", [])


def test_what_is_no_small_regular_file_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(b"a" * (64 * 1024 + 1))
    (tmp_path / "just").write_bytes(b"a" * (64 * 1024))
    for name in ("pipe", "big", ".", "nope", "/dev/zero"):
        assert filled(f"${{file:{name}}}", tmp_path) == (None, ["SF1033"])
    assert filled("${file:just}", tmp_path)[1] == []


def test_a_small_file_cannot_grow_without_bound(tmp_path):
    (tmp_path / "f").write_bytes(b"a" * 60_000)
    assert filled("${file:f}" * 20, tmp_path) == (None, ["SF1002"])


def test_keys_and_values_of_other_kinds_are_left_alone():
    root, _ = document.parse("${A}: 1\nb: [true, null, 2.5, '${A}']\n")
    assert interpolate(root, None, {"A": "x"}) == []
    assert document.plain(root) == {"${A}": 1, "b": [True, None, 2.5, "x"]}


def test_where_values_came_from_is_kept(project):  # noqa: F811
    (project / "secret").write_text("hunter2\n")
    config = valid(
        f"{HEAD}    timeout: ${{T}}\n    env: {{KEY: '${{file:secret}}', BOTH: 'a${{T}}${{file:secret}}'}}\n",
        project,
        T="9s",
    )
    assert dict(config.origins) == {
        "functions.f.timeout": "environment T",
        "functions.f.env.KEY": "file secret",
        "functions.f.env.BOTH": "environment T, file secret",
    }
    assert config.functions["f"].env["KEY"] == "hunter2"


def test_what_came_from_a_file_is_shown_nowhere(project):  # noqa: F811
    (project / "secret").write_text("hunter2")
    text = (
        f"{HEAD}    env: {{KEY: '${{file:secret}}'}}\n    triggers:\n"
        "      t: {type: memory, topic: '${file:secret}'}\n"
    )
    config = valid(text, project)
    assert "hunter2" not in repr(config)
    assert "hunter2" not in repr(config.functions["f"].triggers)
    assert "hunter2" not in str(config.masked())
    assert config.masked()["functions"]["f"]["env"]["KEY"] == "***"
    assert config.masked()["functions"]["f"]["triggers"]["t"]["topic"] == "***"
    for key in ("memory", "timeout", "runtime", "venv", "code", "handler"):
        wrong = f"{HEAD}    {key}: '${{file:secret}}'\n".replace(
            f"    {key}: {'code' if key == 'code' else 'app.main'}\n", "", 1
        )
        told = found(wrong, project)
        assert told
        assert "hunter2" not in str(told), key
