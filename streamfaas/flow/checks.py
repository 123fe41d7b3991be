"""Checks of one text or one number, each in time linear in what it looks at: no backtracking."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from ipaddress import IPv6Address
from math import isinf
from typing import TypeAlias

Check: TypeAlias = Callable[[str], bool]


def always(_: str) -> bool:
    """Any value will do."""
    return True


def unlike_texts(refused: frozenset[str]) -> Check:
    """A text that is none of these."""
    return lambda text: text not in refused


def none_of(checks: Sequence[Check]) -> Check:
    """A value that none of the checks accepts."""
    return lambda value: not any(check(value) for check in checks)


def begins(wanted: str) -> Check:
    """A text that begins so."""
    return lambda text: text.startswith(wanted)


def ends(wanted: str) -> Check:
    """A text that ends so."""
    return lambda text: text.endswith(wanted)


def same_ignoring_case(wanted: str) -> Check:
    """A text in whose characters only upper and lower case differ."""
    found = _cases(wanted).fullmatch
    return lambda text: found(text) is not None


def begins_ignoring_case(wanted: str) -> Check:
    """A text that begins so, but for upper and lower case."""
    found = _cases(wanted).match
    return lambda text: found(text) is not None


def ends_ignoring_case(wanted: str) -> Check:
    """A text that ends so, but for upper and lower case: looked at from its end."""
    found = _cases(wanted, backwards=True).match
    longest = sum(max(map(len, _both(character))) for character in wanted)
    return lambda text: found(text[: -longest - 1 : -1]) is not None


def _both(character: str) -> tuple[str, ...]:
    """A character in lower and in upper case, once where these are the same. No one of the two is
    a part of the other's beginning or end, so an expression of them never has to go back."""
    return tuple(dict.fromkeys((character.lower(), character.upper())))


def _cases(wanted: str, *, backwards: bool = False) -> re.Pattern[str]:
    step = -1 if backwards else 1
    each = ([re.escape(case[::step]) for case in _both(character)] for character in wanted[::step])
    return re.compile("".join(f"(?:{'|'.join(cases)})" for cases in each))


def like(parts: Sequence[str]) -> Check:
    """A text made of these parts in turn, with anything between them (two parts at the least)."""
    first, *middle, last = parts
    shortest = len(first) + len(last)

    def check(text: str) -> bool:
        if len(text) < shortest or not text.startswith(first) or not text.endswith(last):
            return False
        at, stop = len(first), len(text) - len(last)
        for part in middle:  # each where it is found first: nothing later can fit better
            at = text.find(part, at, stop)
            if at < 0:
                return False
            at += len(part)
        return True

    return check


NUMBER_CHARACTERS_MAX = 1_000
EXACT_DIGITS = 15  # of decimal digits, so many come back from a double as they went in


def comparable(text: str) -> float | None:
    """The value of a JSON number, where a double holds exactly what is written."""
    if len(text) <= EXACT_DIGITS and "e" not in text and "E" not in text:
        return float(text)
    if len(text) > NUMBER_CHARACTERS_MAX or isinf(number := float(text)):
        return None
    try:
        return number if Decimal(repr(number)) == Decimal(text) else None
    except ArithmeticError:  # an exponent beyond what decimals have
        return None


def within(bounds: Iterable[tuple[Callable[[float, float], bool], float]]) -> Check:
    """A number for which each comparison with its bound holds."""
    wanted = tuple(bounds)

    def check(text: str) -> bool:
        number = comparable(text)
        return number is not None and all(holds(number, bound) for holds, bound in wanted)

    return check


def unlike_numbers(refused: frozenset[float]) -> Check:
    """A number whose value is none of these."""
    return lambda text: comparable(text) not in refused


Address: TypeAlias = tuple[int, int]
"""Of which version, and its number."""

WIDTH = {4: 32, 6: 128}
_ADDRESS_CHARACTERS_MAX = 39
_V4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_V6 = re.compile(r"[0-9a-fA-F:]+")


def address(text: str) -> Address | None:
    """The IP address that a text is, if it is one."""
    if not 2 <= len(text) <= _ADDRESS_CHARACTERS_MAX:
        return None
    if _V4.fullmatch(text):
        parts = [int(part) for part in text.split(".")]
        return (4, int.from_bytes(parts)) if max(parts) <= 0xFF else None
    if ":" not in text or not _V6.fullmatch(text):
        return None
    try:
        found = IPv6Address(text)
    except ValueError:
        return None
    return (4, int(found.ipv4_mapped)) if found.ipv4_mapped else (6, int(found))


def is_address(wanted: Address) -> Check:
    """A text that is this address, however it is written."""
    return lambda text: address(text) == wanted


def in_block(base: Address, bits: int) -> Check:
    """A text that is an address whose first bits are those of the base."""
    version, number = base
    rest = WIDTH[version] - bits
    wanted = version, number >> rest

    def check(text: str) -> bool:
        found = address(text)
        return found is not None and (found[0], found[1] >> rest) == wanted

    return check
