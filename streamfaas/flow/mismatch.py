"""Why a record is not wanted: of each pattern the first field that failed, for people to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from streamfaas.flow.condition import Condition, said
from streamfaas.flow.fields import Steps, fields_of, hold_in_object
from streamfaas.flow.pattern import Data, Filter, Form, NonJson, Rule, expected

SHOWN_MAX = 3
CHARACTERS_MAX = 100
"""How many of the values that were found are told, and how much of each."""


@dataclass(frozen=True, slots=True)
class Miss:
    """A field, by its dotted name, that is not as it should be."""

    field: str
    wanted: str
    found: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one pattern, by its number from 0: one miss for each of its alternatives, or
    none if it matches. `ignored` says that it does without its data having been looked at."""

    number: int
    misses: tuple[Miss, ...] = ()
    ignored: bool = False

    @property
    def matches(self) -> bool:
        return not self.misses


def answers(judged: Filter, metadata: Mapping[str, object], data: Data) -> tuple[Answer, ...]:
    """Each pattern's answer to a record."""
    rules = groupby(judged.rules, key=lambda rule: rule.number)
    return tuple(_answer(judged, n, list(same), metadata, data) for n, same in rules)


def _answer(
    judged: Filter, number: int, rules: list[Rule], metadata: Mapping[str, object], data: Data
) -> Answer:
    misses = []
    for rule in rules:
        miss = _miss(judged, rule, metadata, data)
        if miss is None:
            return Answer(number, ignored=not _readable(rule, data))
        misses.append(miss)
    return Answer(number, tuple(misses))


def _readable(rule: Rule, data: Data) -> bool:
    return rule.data is None or data.form in (Form.ABSENT, expected(rule.data))


def _miss(judged: Filter, rule: Rule, metadata: Mapping[str, object], data: Data) -> Miss | None:
    if not _readable(rule, data):
        about = {n for n in rule.fields if n.partition(".")[0] == judged.data_key}
        if judged.non_json is NonJson.IGNORED:
            kept = {name: each for name, each in rule.fields.items() if name not in about}
            return _first_miss(kept, metadata)
        name = next(name for name in rule.fields if name in about)
        return Miss(name, _wanted(rule.fields[name]), f"{data.form.value} in {judged.data_key}")
    if judged.data_key is None or data.form is Form.ABSENT:
        return _first_miss(rule.fields, metadata)
    return _first_miss(rule.fields, {**metadata, judged.data_key: data.value})


def _first_miss(fields: Mapping[str, Condition], record: Mapping[str, object]) -> Miss | None:
    """The first field, in the order of the pattern, with which those before it do not hold. Those
    that may be missing come last, since others choose where they are looked for."""
    taken: dict[str, Condition] = {}
    for name in sorted(fields, key=lambda each: fields[each].absent):
        taken[name] = fields[name]
        if hold_in_object(fields_of(taken), record):
            continue
        found = _found(name, record)
        if hold_in_object(fields_of({name: fields[name]}), record):
            found += ", in no element of a list that has the fields before it too"
        return Miss(name, _wanted(fields[name]), found)
    return None


def _wanted(condition: Condition) -> str:
    return " or ".join(condition.words)


def _found(name: str, record: Mapping[str, object]) -> str:
    words = list(islice(_words(tuple(name.split(".")), record), SHOWN_MAX + 1))
    return ", ".join([*words[:SHOWN_MAX], *("more" for _ in words[SHOWN_MAX:])]) or "nothing"


def _words(steps: Steps, value: Any) -> Iterator[str]:
    """What is at the end of the steps."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from _words(steps, each)
    elif not steps:
        yield "an object" if isinstance(value, Mapping) else _shortened(said(value))
    elif isinstance(value, Mapping):
        for end in range(1, len(steps) + 1):
            name = ".".join(steps[:end])
            if name in value:
                yield from _words(steps[end:], value[name])


def _shortened(text: str) -> str:
    return text if len(text) <= CHARACTERS_MAX else f"{text[: CHARACTERS_MAX - 1]}…"
