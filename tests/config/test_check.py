"""Everything that is said of a wrong configuration: where, what, and how to mend it."""

import re
from pathlib import Path

import pytest

from config_project import FUNCTION, HEAD, KAFKA, found, project, valid  # noqa: F401
from streamfaas.config.check import check, redacted
from streamfaas.config.document import BLOT
from streamfaas.config.report import report
from streamfaas.config.spec import RUNTIME
from streamfaas.docs import explanations

GOLDEN = Path(__file__).with_name("problems.txt").read_text()
CASES = [block.split("\n-----", 1) for block in GOLDEN.split("\n=====\n")[1:]]
ENVIRON = {"EMPTY": "", "PW": "secret"}

ELSEWHERE = {
    "SF1001",
    "SF1002",
    "SF1003",
    "SF1005",
    "SF1020",
    "SF1021",
    "SF1059",
    "SF1079",
    "SF1087",
    "SF1092",
    "SF1097",
}
"""Codes whose tests need more than a few lines of text: below, and in test_load.py."""


def expand(text):
    for name, value in (("<KAFKA>", KAFKA), ("<HEAD>", HEAD), ("<FUNCTION>", FUNCTION)):
        text = text.replace(name, value)
    return text + "\n"


@pytest.mark.parametrize(("text", "told"), CASES, ids=[f"case {at}" for at in range(len(CASES))])
def test_a_configuration_is_told_all_that_is_wrong_with_it(project, text, told):  # noqa: F811
    assert found(expand(text), project, **ENVIRON) == told.strip().splitlines()


def test_each_problem_of_the_manual_has_a_case():
    tested = set(re.findall(r"SF1\d{3}", GOLDEN)) | ELSEWHERE
    assert tested == {code for code in explanations() if code.startswith("SF1")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["1:1 SF1012: the file is empty | begin with `version: 1`"]),
        ("[" * 100, ["1:65 SF1005: nested over 64 levels deep"]),
        ('x: "a\x07"\n', ["1:6 SF1003: control character U+0007"]),
        ("\ufeffversion: 1", ["1:1 SF1003: the file begins with a byte order mark | save it as UTF-8 without one"]),
        ("a: '\ud800'", ["1:5 SF1003: control character U+D800"]),
        (
            HEAD + "    env: {AB: '" + "x" * 4_095 + "'}",
            ["6:5 SF1059 functions.f.env: the names and values come to 4,097 bytes, over the limit of 4,096 | put large values in a file of the code"],
        ),
        (
            HEAD + "    env: {AB: '" + "x" * 4_097 + "'}",
            ["6:15 SF1042 functions.f.env.AB: " + "x" * 60 + "… has 4,097 characters, over the limit of 4,096"],
        ),
        (
            HEAD.replace("app.main", "a" * 128 + ".b"),
            ["5:14 SF1042 functions.f.handler: " + "a" * 60 + "… has 130 characters, over the limit of 128"],
        ),
        (HEAD.replace("code: code", "code: " + "d" * 300), ["4:11 SF1063 functions.f.code: BASE/" + "d" * 300 + " cannot be looked at (File name too long)"]),
    ],
)  # fmt: skip
def test_long_and_odd_texts_are_told_shortly(project, text, told):  # noqa: F811
    assert found(text, project) == told


def test_a_state_directory_leaves_room_for_its_socket(project):  # noqa: F811
    long = "s" * (108 - len(f"{project}//streamfaas.sock"))
    told = found(f"{HEAD}state: {{path: {long}}}", project)
    assert [one.split(":")[1] for one in told] == ["15 SF1079 state.path"]
    assert " has 108 bytes, over the limit of 107 for a socket" in told[0]
    assert found(f"{HEAD}state: {{path: {long[1:]}}}", project) == []


def test_what_is_wrong_in_one_place_hides_nothing_in_another(project):  # noqa: F811
    text = (
        KAFKA
        + ", batch: {window: 600s}}\n      u: {type: schedule}\n  g: {code: nope, handler: app.main}\nzz: 1"
    )
    assert [one.split()[1] for one in found(text, project)] == [
        "SF1042",
        "SF1041",
        "SF1063",
        "SF1040",
    ]


def test_a_connection_with_errors_is_not_reported_missing(project):  # noqa: F811
    told = found(KAFKA.replace("k1:9092", "k1") + "}", project)
    assert [one.split()[1] for one in told] == ["SF1052"]


def test_over_a_hundred_triggers_on_a_directory_are_refused(project):  # noqa: F811
    many = "".join(
        f"      t{at}: {{type: object-store, via: directory, path: inbox, bucket: inbox, prefix: '{at:03}/'}}\n"
        for at in range(101)
    )
    told = found(f"{HEAD}    triggers:\n{many}", project)
    assert told == [
        "107:7 SF1069 functions.f.triggers.t100: over 100 triggers watch the same directory"
    ]


@pytest.mark.parametrize(
    "text", ["$(touch canary)", "`touch canary`", "; touch canary", "| touch canary", "a\nb"]
)
def test_shell_words_are_text_or_refused_in_each_field(project, text):  # noqa: F811
    quoted = "'" + text.replace("\n", "\\n") + "'"
    for body in (
        HEAD.replace("code: code", f"code: {quoted}"),
        HEAD.replace("app.main", quoted),
        f"{HEAD}    env: {{AB: {quoted}}}\n",
        f"{HEAD}    venv: {quoted}\n",
        KAFKA.replace("[a]", f"[{quoted}]") + "}",
        KAFKA + f", group: {quoted}}}",
        HEAD.replace("  f:", f"  {quoted}:"),
    ):
        check(body, name="x", base_dir=project, environ={})
    assert not (project / "canary").exists()


def test_defaults_reach_the_functions_that_say_nothing(project):  # noqa: F811
    config = valid(
        "version: 1\ndefaults: {memory: 256MB, timeout: 9s, isolation: best-effort}\n"
        f"{FUNCTION}  g: {{code: code, handler: app.main, memory: 1GB, isolation: {{network: none}}}}\n",
        project,
    )
    f, g = config.functions["f"], config.functions["g"]
    assert (f.memory_mb, f.timeout, f.isolation.mode) == (256, 9.0, "best-effort")
    assert (g.memory_mb, g.timeout, g.isolation.mode, g.isolation.network) == (
        1024,
        9.0,
        "enforce",
        "none",
    )
    assert f.runtime == RUNTIME


def test_paths_start_at_the_directory_of_the_file(project):  # noqa: F811
    config = valid(KAFKA + ", on_failure: {type: file, path: dead.jsonl}}", project)
    trigger = config.functions["f"].triggers["t"]
    assert config.functions["f"].code == project / "code"
    assert trigger.on_failure.path == project / "dead.jsonl"
    assert config.state.path == project / "state"
    assert config.socket == project / "state" / "streamfaas.sock"
    assert config.file == project / "streamfaas.yaml"


def test_the_service_manager_may_give_the_state_directory(project):  # noqa: F811
    config = valid(HEAD, project, STATE_DIRECTORY=f"{project}/link:/elsewhere")
    assert config.state.path == project / "inbox"  # which the link leads to


@pytest.mark.parametrize(
    ("words", "retries"),
    [
        ("", None),
        (", retries: {max: unlimited}", None),
        (", on_failure: {type: file, path: d}", 10),
        (", on_failure: {type: file, path: d}, retries: {max: 3}", 3),
        (", on_failure: {type: file, path: d}, retries: {max: unlimited}", None),
    ],
)
def test_retries_end_only_where_there_is_somewhere_to_go(project, words, retries):  # noqa: F811
    trigger = valid(KAFKA + words + ", group: g}", project).functions["f"].triggers["t"]
    assert trigger.retries.max == retries


@pytest.mark.parametrize(
    ("words", "bisect"),
    [
        ("", False),
        (", on_failure: {type: file, path: d}", True),
        (", on_failure: {type: file, path: d}, retries: {bisect: false}", False),
        (", on_failure: {type: file, path: d}, retries: lambda", False),
        (", retries: {bisect: true}", True),
    ],
)
def test_batches_are_halved_where_there_is_somewhere_to_go(project, words, bisect):  # noqa: F811
    trigger = valid(KAFKA + words + "}", project).functions["f"].triggers["t"]
    assert trigger.retries.bisect is bisect


def test_lambda_means_what_lambda_does(project):  # noqa: F811
    config = valid(
        KAFKA + ", retries: lambda, on_failure: {type: file, path: d}}\n"
        "      u: {type: object-store, via: directory, path: inbox, bucket: inbox, retries: lambda, "
        "on_failure: {type: file, path: d}}\n"
        "      v: {type: memory, topic: a, retries: lambda}\n",
        project,
    )
    triggers = config.functions["f"].triggers
    log, directory = triggers["t"].retries, triggers["u"].retries
    assert (log.max, log.max_age, log.bisect) == (10, None, False)
    assert (directory.max, directory.max_age, directory.backoff) == (2, 21_600.0, (60.0, 120.0))
    assert triggers["v"].retries.max is None


def test_asynchronous_invocations_are_retried_as_on_lambda(project):  # noqa: F811
    asked = valid(HEAD, project).functions["f"].asynchronous
    assert (asked.retries, asked.max_age) == (2, 21_600.0)
    assert (asked.on_success, asked.on_failure, asked.dead_letter) == (None, None, None)


def test_one_pattern_alone_is_a_filter_too(project):  # noqa: F811
    pattern = "{value: {status: [paid, null, 3]}}"
    (alone,), (listed,) = (
        valid(f"{KAFKA}, filter: {written}}}", project).functions["f"].triggers["t"].filter
        for written in (pattern, f"[{pattern}]")
    )
    assert alone == listed == '{"value":{"status":["paid",null,3]}}'


def test_all_destinations_are_listed_with_their_places(project):  # noqa: F811
    config = valid(
        KAFKA + ", on_success: {type: file, path: a}, on_failure: {type: file, path: b}}\n"
        "    asynchronous: {dead_letter: {type: file, path: c}}\n",
        project,
    )
    assert [(".".join(path), each.path.name) for path, each in config.destinations()] == [
        ("functions.f.asynchronous.dead_letter", "c"),
        ("functions.f.triggers.t.on_success", "a"),
        ("functions.f.triggers.t.on_failure", "b"),
    ]


def test_a_group_is_named_after_its_mapping(project):  # noqa: F811
    config = valid(KAFKA + "}", project)
    assert config.functions["f"].triggers["t"].group == "streamfaas.f.t"
    assert [(f, t) for f, t, _ in config.mappings()] == [("f", "t")]


def test_plain_secrets_are_blotted_out_and_nothing_moves():
    text = "a: {password: hunter2, x: 1}\nb:\n  client_secret: |\n    two\n    lines\nc: '${X}'\n"
    shown = redacted(text)
    assert (
        shown
        == "a: {password: #######, x: 1}\nb:\n  client_secret: #\n#######\n#########\nc: '${X}'\n".replace(
            "#", BLOT
        )
    )
    broken = redacted('a: {password: hunter2, "client_secret":"x y"\n')
    assert "hunter2" not in broken
    assert "x y" not in broken
    assert len(broken) == len('a: {password: hunter2, "client_secret":"x y"\n')


def test_what_looks_like_a_secret_is_blotted_out_too():
    text = "functions: {f: {env: {API_KEY: hunter2, DB: 'postgres://u:pw@h', A: shown}}}\n"
    assert redacted(text) == text.replace("hunter2", BLOT * 7).replace(
        "'postgres://u:pw@h'", BLOT * 19
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@h.example/x",
        "https://user:hun/t@er2@h.example/a b",
        "https:/user:hunter2@h.example",
        "user:hunter2@h.example",
        "https://hunter2@h.example",
    ],
)
def test_a_login_in_an_address_is_never_told(project, url):  # noqa: F811
    text = HEAD + f"    asynchronous: {{on_success: {{type: http, url: '{url}'}}}}\n"
    _, problems = check(text, name="c.yaml", base_dir=project, environ={})
    [problem] = [each for each in problems if each.code == "SF1057"]
    assert "***@h.example" in problem.message
    whole = report(problems, "c.yaml", redacted(text))
    broken = redacted(text + "}")
    assert broken.endswith("}")
    for told in (whole, broken if "://" in url else ""):
        assert "hun" not in told
        assert "er2" not in told


def test_code_that_others_could_change_is_told(project):  # noqa: F811
    (project / "code").chmod(0o777)
    assert found(HEAD, project) == [
        "w 4:11 SF1097 functions.f.code: BASE/code may be written by everybody, who decides what is run | chmod o-w"
    ]


def test_state_in_a_place_that_everybody_may_write_to_is_refused(project):  # noqa: F811
    (project / "open").mkdir()
    (project / "open").chmod(0o777)
    for path in ("open/state", "open/a/state"):
        (one,) = found(f"{HEAD}state: {{path: {path}}}\n", project)
        assert one.partition(" SF1022 ")[2] == (
            f"state.path: BASE/{path} lies in BASE/open, which may be written by everybody "
            "| chmod o-w BASE/open"
        )
    (project / "open").chmod(0o1777)  # as /tmp is
    assert found(f"{HEAD}state: {{path: open/state}}\n", project) == []
