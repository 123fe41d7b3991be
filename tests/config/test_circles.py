"""Circles of functions: found wherever there is one, named whole, and soon."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config_project import found, project  # noqa: F401
from streamfaas.config.check import check
from streamfaas.config.rules import circles

NAMES = "abcdef"
EDGES = st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=14)


def written(edges, ways):
    """Functions that send to each other, each by a function destination or by a topic."""
    lines = ["version: 1", "connections:", "  m: {type: kafka, brokers: [k1:9092]}", "functions:"]
    for name in NAMES:
        lines += [f"  {name}:", "    code: code", "    handler: app.main", "    triggers:"]
        lines.append("      t: {type: memory, topic: t}")
        for at, (sender, reader) in enumerate(edges):
            topic = f"{sender}-{reader}"
            if sender == name and ways[at] == "function":
                to = f"{{type: function, function: {reader}}}"
            elif sender == name:
                to = f"{{type: kafka, connection: m, topic: {topic}}}"
            elif reader == name and ways[at] != "function":
                by = (
                    f"topics: [{topic}]"
                    if ways[at] == "topic"
                    else f"pattern: '{topic[:2]}{topic[2]}'"
                )
                lines.append(f"      r{at}: {{type: kafka, connection: m, {by}, start: latest}}")
                continue
            else:
                continue
            lines.append(f"      s{at}: {{type: memory, topic: t, on_success: {to}}}")
    return "\n".join(lines) + "\n"


def on_circles(edges):
    """Which functions come back to themselves, by looking at all ways."""
    reached = set(edges)
    for _ in NAMES:
        reached |= {(a, d) for a, b in reached for c, d in edges if b == c}
    return {a for a, b in reached if a == b}


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_circle_is_found_where_there_is_one_and_is_one(data, tmp_path_factory):
    edges = sorted(edge for edge in data.draw(EDGES) if edge[0] != edge[1])
    ways = [data.draw(st.sampled_from(["function", "topic", "pattern"])) for _ in edges]
    base = tmp_path_factory.getbasetemp()
    (base / "code").mkdir(exist_ok=True)
    (base / "code" / "app.py").touch()
    told = [one for one in found(written(edges, ways), base) if " SF1083 " in one]
    assert bool(told) == bool(on_circles(edges))
    for one in told:
        names = re.search(r"comes back: (.*) \|", one)[1].split(" → ")
        functions = [name for name in names if not name.startswith("the topic")]
        assert functions[0] == functions[-1]
        assert set(pairwise(functions)) <= set(edges)
        assert f"functions.{functions[0]}." in one


@given(st.text("ab.-", min_size=1, max_size=6), st.text(r"ab.\-+*?{}()[]", max_size=3))
def test_every_match_of_a_pattern_begins_as_it_is_said_to(name, more):
    for pattern in (re.escape(name) + more, name + more):
        try:
            matching = re.compile(pattern)
        except (re.error, FutureWarning):
            continue
        begin = circles._beginning(pattern)
        for text in (name, name[:-1], name + "a", "a", "b", begin):
            assert text.startswith(begin) or not matching.fullmatch(text)


@pytest.mark.parametrize(
    ("pattern", "begin"),
    [
        (r"orders\.v1", "orders.v1"),
        (r"orders\..*", "orders."),
        ("orders.*", "orders"),
        ("ab*", "a"),
        ("ab+", "ab"),
        ("a|b", ""),
        ("(?i)a", ""),
        (".*", ""),
    ],
)
def test_the_beginning_of_a_pattern_is_what_is_plain_to_see(pattern, begin):
    assert circles._beginning(pattern) == begin


HEAD = "version: 1\nconnections:\n  m: {type: kafka, brokers: [k1:9092]}\nfunctions:\n"


def chain(length, back):
    """Functions that send to the next one by a topic, and the last to `back`."""
    ends = [*range(1, length), back]
    return HEAD + "".join(
        f"  f{at}:\n    code: code\n    handler: app.main\n    triggers:\n"
        f"      t: {{type: kafka, connection: m, topics: [t{at}], start: latest,"
        f" on_success: {{type: kafka, connection: m, topic: t{to}}}}}\n"
        for at, to in enumerate(ends)
    )


def test_a_long_circle_is_told_shortly(project):  # noqa: F811
    (told,) = found(chain(200, 0), project)
    assert told.startswith("1004:118 SF1083 functions.f199.triggers.t.on_success.topic: what goes")
    assert "f199 → the topic t0 → f0 → the topic t1 → f1" in told
    assert told.endswith("… 351 more … → f199 | let one of them send elsewhere")


@pytest.mark.slow
def test_thousands_of_functions_in_one_circle_are_checked(project):  # noqa: F811
    text = chain(2_000, 0)
    config, problems = check(text, name="x", base_dir=project, environ={})
    assert config is None
    assert [problem.code for problem in problems] == ["SF1083"]


def readers(patterns):
    return (
        f"{HEAD}  f:\n    code: code\n    handler: app.main\n    triggers:\n"
        + "".join(
            f"      t{at}: {{type: kafka, connection: m, group: g{at}, pattern: '{pattern}', start: latest,"
            f" on_success: {{type: kafka, connection: m, topic: t{at}}}}}\n"
            for at, pattern in enumerate(patterns)
        )
    )  # fmt: skip


@pytest.mark.slow
def test_patterns_that_begin_apart_are_all_followed(project):  # noqa: F811
    patterns = [f"in{at}-.*" for at in range(1_000)]
    assert found(readers(patterns), project) == []
    patterns[7] = "t99.*"
    told = found(readers(patterns), project)
    assert len(told) == 11  # t99, t990 … t999
    assert all("SF1082" in one and "f/t7 reads this topic" in one for one in told)


def test_patterns_that_could_be_anything_are_followed_as_far_as_time_allows(project, monkeypatch):  # noqa: F811
    monkeypatch.setattr(circles, "MATCHES_MAX", 20)
    told = found(readers(["in[a-z]*"] * 3), project)
    assert told == []
    told = found(readers([".*x"] * 5), project)
    assert told == [
        "w 4:1 SF1092 functions: there are too many patterns to tell whether one of them reads a destination"
    ]
