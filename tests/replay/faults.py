"""What is to go wrong, and how often: rules that a broker asks before it does anything."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from replay.batches import Damage, covers, damage
from replay.wire import Api, Code


class Drop(enum.Enum):
    """When a connection is dropped."""

    BEFORE = "the request is not looked at"
    UNANSWERED = "the request is carried out, its answer is never sent"
    HALFWAY = "half of the answer is sent"
    AFTER = "the whole answer is sent"


@dataclass(slots=True)
class Rule:
    """Where and how often a fault strikes. What is None fits all."""

    times: int | None = None
    api: Api | None = None
    node: int | None = None
    group: str | None = None
    topic: str | None = None
    partition: int | None = None
    struck: int = 0

    def strikes(self, place: Place) -> bool:
        """Whether it fits and is not used up; counts."""
        fits = (
            (self.times is None or self.struck < self.times)
            and self.api in {None, place.api}
            and self.node in {None, place.node}
            and self.group in {None, place.group}
            and self.topic in {None, place.topic}
            and self.partition in {None, place.partition}
        )
        self.struck += fits
        return fits

    def end(self) -> None:
        self.times = self.struck


@dataclass(frozen=True, slots=True)
class Place:
    """What is going on, for a rule to look at."""

    api: Api
    node: int
    group: str | None = None
    topic: str | None = None
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Manner:
    """How a request is answered: late, never, dropped or in drops."""

    delay_seconds: float = 0.0
    silent: bool = False
    drop: Drop | None = None
    drip_bytes: int = 0
    drip_seconds: float = 0.0


PLAIN = Manner()


@dataclass(slots=True)
class Faults:
    """All rules of a broker; the oldest that fits is taken."""

    _codes: list[tuple[Rule, Code]] = field(default_factory=list)
    _manners: list[tuple[Rule, Manner]] = field(default_factory=list)
    _damages: list[tuple[Rule, int, Damage]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self._codes or self._manners or self._damages)

    def add_code(self, rule: Rule, code: Code) -> Rule:
        self._codes.append((rule, code))
        return rule

    def add_manner(self, rule: Rule, manner: Manner) -> Rule:
        self._manners.append((rule, manner))
        return rule

    def add_damage(self, rule: Rule, offset: int, kind: Damage) -> Rule:
        self._damages.append((rule, offset, kind))
        return rule

    def clear(self) -> None:
        for rules in (self._codes, self._manners, self._damages):
            for rule, *_ in rules:
                rule.end()
            rules.clear()

    def code(self, place: Place) -> Code:
        return next((code for rule, code in self._codes if rule.strikes(place)), Code.NONE)

    def manner(self, place: Place) -> Manner:
        return next((manner for rule, manner in self._manners if rule.strikes(place)), PLAIN)

    def spoil(self, data: bytes, place: Place) -> bytes:
        """The answer's batches as they are sent."""
        for rule, offset, kind in self._damages:
            if covers(data, offset) and rule.strikes(place):
                data = damage(data, offset, kind)
        return data
