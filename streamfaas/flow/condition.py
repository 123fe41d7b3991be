"""What the value of one field must be: a pattern's list of values and operators, compiled.

The meaning is that of EventBridge's event patterns, as their reference matcher answers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, TypeGuard

from streamfaas.flow import checks
from streamfaas.flow.checks import Check, always
from streamfaas.flow.errors import BadPattern
from streamfaas.flow.json_text import Number, number_text

STARS_MAX = 64
"""How many `*` one wildcard may have."""

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """The list: any of its entries may accept the value. `absent` says that the field may be
    missing, `present` that there are values that it accepts; `words` say each entry to people."""

    words: tuple[str, ...]
    texts: frozenset[str]
    numbers: frozenset[str]
    text_checks: tuple[Check, ...]
    number_checks: tuple[Check, ...]
    constant_checks: tuple[Check, ...]
    absent: bool
    present: bool

    def accepts(self, value: Any) -> bool:
        """Whether a leaf that is there (text, number, true, false or null) is wanted."""
        kind = type(value)
        if kind is str:
            return value in self.texts or _any(self.text_checks, value)
        if kind is Number:
            return value in self.numbers or _any(self.number_checks, value)
        if kind is int or kind is float:
            return self.accepts(Number(number_text(value)))
        return _any(self.constant_checks, CONSTANTS[value])


def condition_of(entries: Sequence[object], path: Path) -> Condition:
    """Compiles a field's list. `BadPattern` where that cannot be done."""
    if not entries:
        _refuse("an empty list accepts nothing", path, "list the values that are wanted")
    tests = [_test(entry, (*path, at)) for at, entry in enumerate(entries)]
    return Condition(
        words=tuple(test.words for test in tests),
        texts=frozenset(test.exact for test in tests if type(test.exact) is str),
        numbers=frozenset(test.exact for test in tests if type(test.exact) is Number),
        text_checks=tuple(test.text for test in tests if test.text),
        number_checks=tuple(test.number for test in tests if test.number),
        constant_checks=tuple(test.constant for test in tests if test.constant),
        absent=any(test.absent for test in tests),
        present=not all(test.absent for test in tests),
    )


CONSTANTS = {True: "true", False: "false", None: "null"}
"""What is neither text nor number, by its name in JSON."""


def said(value: Any) -> str:
    """A leaf as people write it in JSON."""
    if value is None or isinstance(value, bool):
        return CONSTANTS[value]
    return f'"{value}"' if type(value) is str else number_text(value)


def _any(choice: tuple[Check, ...], value: str) -> bool:
    for check in choice:  # noqa: SIM110 - a generator costs three times as much
        if check(value):
            return True
    return False


def _refuse(message: str, path: Path, hint: str = "") -> NoReturn:
    raise BadPattern(message, path, hint)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


@dataclass(frozen=True, slots=True)
class _Test:
    """One entry of a list: a check for each kind of value, or one exact text or number."""

    words: str
    text: Check | None = None
    number: Check | None = None
    constant: Check | None = None
    exact: str | None = None
    absent: bool = False


Operator: TypeAlias = Callable[[Any, Path], _Test]


def _test(entry: Any, path: Path) -> _Test:
    match entry:
        case Number():
            return _Test(entry, exact=entry)
        case str():
            return _equal(entry)
        case bool() | None:
            return _Test(said(entry), constant=CONSTANTS[entry].__eq__)
        case int() | float():
            return _Test(number_text(entry), exact=Number(number_text(entry)))
        case Mapping():
            name, operand = _only(entry, path)
            known = _OPERATORS.get(name)
            if known is None:
                _refuse(f"there is no operator {name!r}", path, f"there are {_listed(_OPERATORS)}")
            return known(operand, (*path, name))
    _refuse("a list holds texts, numbers, true, false, null and operators", path)


def _only(entry: Mapping[Any, Any], path: Path) -> tuple[Any, Any]:
    if len(entry) != 1:
        hint = "the entries of a list are alternatives: give each operator its own object"
        _refuse(f"one operator is needed here, not {len(entry)}", path, hint)
    return next(iter(entry.items()))


def _text(value: object, path: Path) -> str:
    if not isinstance(value, str) or isinstance(value, Number):
        _refuse("a text is needed here", path)
    return value


def _equal(text: str) -> _Test:
    """A text equals by its characters, an IP address by what it means."""
    found = checks.address(text)
    if found is not None:
        return _Test(said(text), checks.is_address(found))
    return _Test(said(text), exact=text)


def _exactly(value: object, path: Path) -> _Test:
    text = _text(value, path)
    return _Test(said(text), exact=text)


def _exists(value: object, path: Path) -> _Test:
    if value is True:
        return _Test("any value", always, always, always)
    if value is not False:
        _refuse("exists is true or false", path)
    return _Test("nothing there", absent=True)


def _ignoring_case(value: object, path: Path) -> _Test:
    text = _text(value, path)
    return _Test(f"{said(text)} in any case", checks.same_ignoring_case(text))


def _prefix(value: object, path: Path) -> _Test:
    if isinstance(value, Mapping):
        text = _folded(value, path)
        words = f"a text that begins with {said(text)} in any case"
        return _Test(words, checks.begins_ignoring_case(text))
    text = _text(value, path)
    return _Test(f"a text that begins with {said(text)}", checks.begins(text))


def _suffix(value: object, path: Path) -> _Test:
    if isinstance(value, Mapping):
        text = _folded(value, path)
        words = f"a text that ends in {said(text)} in any case"
        return _Test(words, checks.ends_ignoring_case(text))
    text = _text(value, path)
    return _Test(f"a text that ends in {said(text)}", checks.ends(text))


def _folded(value: Mapping[Any, object], path: Path) -> str:
    """The text in `{"equals-ignore-case": text}`."""
    name, operand = _only(value, path)
    if name != "equals-ignore-case":
        _refuse(f"there is no {name!r} here", path, "give a text, or equals-ignore-case with one")
    return _text(operand, (*path, name))


def _wildcard(value: object, path: Path) -> _Test:
    text = _text(value, path)
    return _Test(f"a text like {said(text)}", _like(text, path))


def _like(text: str, path: Path) -> Check:
    parts = [""]
    at = 0
    while at < len(text):
        character, after = text[at], text[at + 1 : at + 2]
        if character == "\\" and after not in ("*", "\\"):
            _refuse(f"\\ before {after!r} means nothing", path, r"write \* for * and \\ for \ ")
        if character == "*" and after == "*":
            _refuse("two * in a row mean no more than one", path, "write one")
        if character == "*":
            parts.append("")
        else:
            parts[-1] += after if character == "\\" else character
        at += 2 if character == "\\" else 1
    if len(parts) > STARS_MAX + 1:
        _refuse(f"there are more than {STARS_MAX} * in it", path)
    return checks.like(parts) if len(parts) > 1 else parts[0].__eq__


def _cidr(value: object, path: Path) -> _Test:
    text = _text(value, path)
    start, _, length = text.partition("/")
    base = checks.address(start)
    if base is None or not length.isascii() or not length.isdecimal():
        _refuse(f"{text!r} is no block of addresses", path, "write it like 10.0.0.0/8")
    bits, width = int(length[:4]), checks.WIDTH[base[0]]
    if bits >= width:
        hint = "give a single address as a text, without an operator"
        _refuse(f"such a block has 0 to {width - 1} bits, not {bits}", path, hint)
    return _Test(f"an address in {text}", checks.in_block(base, bits))


_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_RANGE = 4  # a comparison and a bound, twice


def _numeric(value: object, path: Path) -> _Test:
    if not isinstance(value, list | tuple) or len(value) not in (2, _RANGE):
        hint = 'write it like [">", 0] or [">", 0, "<=", 5]'
        _refuse("numeric is a list of a comparison and a number, once or twice", path, hint)
    names = [_comparison(each, path) for each in value[::2]]
    bounds = [_number(each, path) for each in value[1::2]]
    if len(value) == _RANGE:
        if names[0] not in (">", ">=") or names[1] not in ("<", "<="):
            _refuse("a range is > or >= and then < or <=", path)
        if bounds[0] >= bounds[1]:
            _refuse("the lower end of a range must be below its upper end", path)
    words = " and ".join(
        f"{name} {said(bound)}" for name, bound in zip(names, value[1::2], strict=True)
    )
    compared = [_COMPARISONS[name] for name in names]
    return _Test(f"a number {words}", number=checks.within(zip(compared, bounds, strict=True)))


def _comparison(value: object, path: Path) -> str:
    if not isinstance(value, str) or value not in _COMPARISONS:
        _refuse(f"there is no comparison {value!r}", path, f"there are {_listed(_COMPARISONS)}")
    return value


def _number(value: object, path: Path) -> float:
    if not _is_number(value):
        _refuse("a number is needed here", path)
    found = checks.comparable(number_text(value))
    if found is None:
        _refuse(f"{value} cannot be compared exactly", path, "numbers here have up to 17 digits")
    return found


def _is_number(value: object) -> TypeGuard[float | Number]:
    return isinstance(value, Number | int | float) and not isinstance(value, bool)


def _anything_but(value: object, path: Path) -> _Test:
    if isinstance(value, Mapping):
        name, operand = _only(value, path)
        if name not in _REFUSABLE:
            _refuse(f"there is no {name!r} here", path, f"there are {_listed(_REFUSABLE)}")
        return _none_like(_REFUSABLE[name], operand, (*path, name))
    refused = _several(value)
    if refused and all(map(_is_number, refused)):
        check = checks.unlike_numbers(frozenset(_number(each, path) for each in refused))
        return _Test(_unlike(refused), always, check, always)
    if not refused or not all(type(each) is str for each in refused):
        _refuse("anything-but takes texts or numbers, and not both", path)
    unlike = checks.unlike_texts(frozenset(refused))
    return _Test(_unlike(refused), unlike, always, always)


def _none_like(compile_one: Operator, value: object, path: Path) -> _Test:
    """What no one of these accepts: a value that is no text is always another."""
    refused = [compile_one(each, path) for each in _several(value)]
    if not refused:
        _refuse("an empty list refuses nothing", path)
    unlike = checks.none_of([test.text for test in refused if test.text])
    words = _listed(test.words for test in refused)
    return _Test(f"anything but {words}", unlike, always, always)


def _some(compile_one: Operator) -> Operator:
    """The operator, for texts with something in them."""

    def compiled(value: object, path: Path) -> _Test:
        if value == "" or isinstance(value, Mapping):
            _refuse("a text of at least one character is needed here", path)
        return compile_one(value, path)

    return compiled


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _unlike(refused: Iterable[object]) -> str:
    return f"anything but {_listed(map(said, refused))}"


_OPERATORS: Mapping[str, Operator] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _ignoring_case,
    "wildcard": _wildcard,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "cidr": _cidr,
    "exists": _exists,
    "exactly": _exactly,
}
_REFUSABLE: Mapping[str, Operator] = {
    "prefix": _some(_prefix),
    "suffix": _some(_suffix),
    "equals-ignore-case": _ignoring_case,
    "wildcard": _wildcard,
}
