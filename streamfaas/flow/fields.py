"""Fields of an event that must hold together: a tree of conditions, held against a tree of values.

Arrays are looked into, and consistently so: of an array that holds objects or arrays, one element
must satisfy all fields that are found in its elements. Each element is tried once for what is left
to be satisfied, so the time grows with the event times the fields, never with their combinations.

1. A plain value in an array counts for its field whatever element satisfies the others.
2. A field that may be missing is judged as the reference matcher does, which takes fields in the
   order of their names: it must be missing in the element that an earlier field has chosen, and in
   all elements where none has.
3. `a.b` in a pattern or an event is the field `b` of `a`, however it is written. Where an event
   writes one field both ways, the two are like elements of an array.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from streamfaas.flow.condition import Condition

Steps: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One field, seen from somewhere above it: the steps down to it, what it must be, and where
    it stands in the order of names."""

    steps: Steps
    condition: Condition
    order: int

    @property
    def below(self) -> Field:
        return Field(self.steps[1:], self.condition, self.order)


@dataclass(frozen=True, slots=True)
class Fields:
    """All fields at or below one place of an event."""

    all: tuple[Field, ...]
    here: Field | None
    below: tuple[tuple[str, Fields], ...]
    dotted: frozenset[str]
    orders: frozenset[int]
    last: int
    last_needed: int


NOBODY = -1
"""No field has chosen an element yet: the order from which on all fields are still open."""


def fields_of(conditions: Mapping[str, Condition]) -> Fields:
    """The tree of fields by their dotted names."""
    names = sorted(conditions)
    return _tree([Field(tuple(n.split(".")), conditions[n], at) for at, n in enumerate(names)])


def _tree(fields: Sequence[Field]) -> Fields:
    groups: dict[str, list[Field]] = {}
    for field in fields:
        if field.steps:
            groups.setdefault(field.steps[0], []).append(field.below)
    return Fields(
        all=tuple(fields),
        here=next((field for field in fields if not field.steps), None),
        below=tuple((name, _tree(group)) for name, group in groups.items()),
        dotted=frozenset(
            ".".join(field.steps[:end])
            for field in fields
            for end in range(2, len(field.steps) + 1)
        ),
        orders=frozenset(field.order for field in fields),
        last=max(field.order for field in fields),
        last_needed=max((f.order for f in fields if not f.condition.absent), default=NOBODY),
    )


def hold(fields: Fields, value: Any, chooser: int = NOBODY) -> bool:
    """Whether the value satisfies the fields from `chooser` on, and the chooser by being there."""
    kind = type(value)
    if kind is dict:
        return hold_in_object(fields, value, chooser)
    if kind is list or kind is tuple:
        return _hold_in_array(fields, value, chooser)
    here = fields.here
    if here is not None and here.order >= chooser and not here.condition.accepts(value):
        return False
    return not fields.below or all(_may_miss(inner, chooser) for _, inner in fields.below)


def hold_in_object(fields: Fields, value: Mapping[str, Any], chooser: int = NOBODY) -> bool:
    """The same for an object, or a mapping that stands for one."""
    if fields.dotted and not fields.dotted.isdisjoint(value):
        value = _unfolded(value, fields.dotted)
    for name, inner in fields.below:
        if name in value:
            if inner.last >= chooser and not hold(inner, value[name], chooser):
                return False
        elif not _may_miss(inner, chooser):
            return False
    return fields.here is None or _may_lack(fields.here, chooser)


def missing(fields: Fields) -> bool:
    """Whether there may be nothing at all."""
    return _may_miss(fields, NOBODY)


def _may_miss(fields: Fields, chooser: int) -> bool:
    return fields.last_needed < max(chooser, 0) and chooser not in fields.orders


def _may_lack(field: Field, chooser: int) -> bool:
    return field.order < chooser or (field.condition.absent and field.order != chooser)


def _hold_in_array(fields: Fields, values: Sequence[Any], chooser: int) -> bool:
    met = _met(fields.here, values, chooser)
    first = _first_to_choose(fields.all, values, chooser, met)
    if first is None:
        return True
    if not first.condition.present:
        return False
    for element in values:
        if _holds_more(element) and (
            hold(fields, element, first.order)
            or (met is not None and hold(fields, element, met.order))  # it may choose as well
        ):
            return True
    return False


def _met(here: Field | None, values: Sequence[Any], chooser: int) -> Field | None:
    """The field that is the array itself, if a plain value in it satisfies the field (rule 1)."""
    if here is None or here.order < chooser:
        return None
    accepts = here.condition.accepts
    for value in values:
        if not _holds_more(value) and accepts(value):
            return here
    return None


def _first_to_choose(
    fields: Iterable[Field], values: Sequence[Any], chooser: int, met: Field | None
) -> Field | None:
    """The first field that is not satisfied by the array as a whole (rule 2)."""
    for field in fields:
        if field.order < chooser or field is met:
            continue
        if not _may_lack(field, chooser) or _present(field.steps, values):
            return field
    return None


def _holds_more(value: object) -> bool:
    kind = type(value)
    return kind is dict or kind is list or kind is tuple


def _present(steps: Steps, value: Any) -> bool:
    """Whether there is any leaf at the end of the steps."""
    kind = type(value)
    if kind is list or kind is tuple:
        return any(_present(steps, each) for each in value)
    if kind is not dict:
        return not steps
    ends = ((".".join(steps[:end]), steps[end:]) for end in range(1, len(steps) + 1))
    return any(name in value and _present(rest, value[name]) for name, rest in ends)


def _unfolded(value: Mapping[str, Any], dotted: frozenset[str]) -> dict[str, Any]:
    """The object with what is behind dotted names put where they point to (rule 3)."""
    plain = {name: inner for name, inner in value.items() if name not in dotted}
    for name in dotted.intersection(value):
        first, _, rest = name.partition(".")
        found = {rest: value[name]}
        plain[first] = _beside(plain[first], found) if first in plain else found
    return plain


def _beside(one: Any, other: dict[str, Any]) -> Any:
    if type(one) is dict:
        return one | {name: [one[name], v] if name in one else v for name, v in other.items()}
    return [*one, other] if type(one) is list else [one, other]
