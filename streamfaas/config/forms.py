"""The forms a single value may take: what is accepted, how it is shown, what its schema says."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, LiteralString, NoReturn

from pydantic import GetCoreSchemaHandler, SecretStr
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from streamfaas.config import units

NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
TOPIC_PATTERN = r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}"
_QUEUE = r"[A-Za-z0-9_-]{1,80}(\.fifo)?"
QUEUE_PATTERN = rf"(arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{{12}}:|https?://\S{{1,400}}/)?{_QUEUE}"
BUCKET_PATTERN = "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
HANDLER_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+"
BROKER_PATTERN = r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9]([A-Za-z0-9._-]{0,252}))(:[0-9]{1,5})"
ADDRESS_PATTERN = r"(localhost|[0-9.]{7,15}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}"
VARIABLE_PATTERN = "[A-Za-z][A-Za-z0-9_]+"
URL_PATTERN = r"https?://[^\s/?#@]+(/[^\s]*)?"

RESERVED = frozenset(
    {"AWS_EXECUTION_ENV", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "LD_PRELOAD", "LD_AUDIT"}
)
"""Names that a function may not set, beside all that begin with AWS_LAMBDA_: those of the runtime,
and those by which foreign code would enter every process."""

INTERPOLATED: Mapping[str, Any] = {"type": "string", "pattern": r"\$\{"}
"""The schema of what is put in from elsewhere."""

_TEXT_MAX = 4_096
_INTEGER = re.compile("[0-9]{1,19}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)


def plainly(value: Any) -> str:
    """A value as it is written where it needs no unit."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Form:
    """How one value is read (`check` gets the value and the directory that relative paths start
    from), told of (`says`), described to an editor, and shown. `word` is what stands for None."""

    says: str
    check: Callable[[Any, Path], Any]
    schema: Mapping[str, Any]
    show: Callable[[Any], str] = plainly
    word: str = ""

    @property
    def has_unit(self) -> bool:
        """Whether a value is not written as it is kept."""
        return self.show is not plainly

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            lambda value, info: self.check(value, info.context)
        )


def fail(
    code: LiteralString,
    message: str,
    hint: str = "",
    *,
    inside: tuple[str | int, ...] | None = None,
) -> NoReturn:
    """Ends a check. The message goes on from the value, which whoever tells it puts before, or
    masks. Where `inside` is given, the path in the value to what is wrong, it stands alone."""
    told = {"message": message, "hint": hint, "inside": inside}
    raise PydanticCustomError(code, "{message}", told)


def fail_word(value: Any, words: tuple[str, ...]) -> NoReturn:
    """Ends a check of what is none of a few words."""
    fail("SF1047", f"is not one of {', '.join(words)}", nearest(value, words))


def duration(low: str, high: str, *, word: LiteralString = "") -> Form:
    """A length of time, as float seconds; where `word` is given, that word too, for None."""
    least, most = units.parse_duration(low), units.parse_duration(high)

    def check(value: Any, _base: Path) -> float | None:
        if word and value == word:
            return None
        _no_minus_one(value, word)
        seconds: float = _unit("SF1045", value, "duration", units.parse_duration)
        _within(seconds, least, most, value, (low, high))
        return seconds

    schema = _pattern(units.DURATION_PATTERN)
    schema["anyOf"] += [{"const": word}] if word else []
    says = f"a duration from {low} to {high}" + (f", or {word}" if word else "")
    return Form(says, check, schema, units.format_duration, word)


def size(low: str, high: str, *, step: str = "1B") -> Form:
    """A number of bytes."""
    least, most, unit = units.parse_size(low), units.parse_size(high), units.parse_size(step)

    def check(value: Any, _base: Path) -> int:
        found: int = _unit("SF1046", value, "size", units.parse_size)
        _within(found, least, most, value, (low, high))
        if found % unit:
            fail("SF1046", f"is not a multiple of {step}")
        return found

    return Form(
        f"a size from {low} to {high}", check, _pattern(units.SIZE_PATTERN), units.format_size
    )


def span(low: str, high: str) -> Form:
    """A range of durations, as a pair of float seconds."""
    least, most = units.parse_duration(low), units.parse_duration(high)

    def check(value: Any, _base: Path) -> tuple[float, float]:
        ends: tuple[float, float] = _unit("SF1049", value, "range", units.parse_range)
        for seconds in ends:
            _within(seconds, least, most, value, (low, high))
        return ends

    one = units.DURATION_PATTERN
    return Form(
        f"a range of durations between {low} and {high}",
        check,
        _pattern(rf"{one}\.\.{one}"),
        lambda ends: units.format_range(*ends),
    )


def whole(low: int, high: int, *, word: LiteralString = "") -> Form:
    """A whole number; where `word` is given, that word too, which stands for None."""

    def check(value: Any, _base: Path) -> int | None:
        if word and value == word:
            return None
        _no_minus_one(value, word)
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            fail("SF1044", f"is not {says}")
        _within(value, low, high, value, (f"{low:,}", f"{high:,}"))
        return int(value)

    says = f"a whole number from {low:,} to {high:,}" + (f", or {word}" if word else "")
    number: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    either = [number, {"const": word}] if word else [number]
    return Form(
        says,
        check,
        {"anyOf": [*either, INTERPOLATED]},
        word=word,
    )


def number(low: float, high: float) -> Form:
    """A number, as float."""

    def check(value: Any, _base: Path) -> float:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", value, re.ASCII):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            fail("SF1044", f"is not {says}")
        _within(value, low, high, value, (f"{low:,}", f"{high:,}"))
        return float(value)

    says = f"a number from {low:,} to {high:,}"
    own = {"type": "number", "minimum": low, "maximum": high}
    return Form(says, check, {"anyOf": [own, INTERPOLATED]})


def version() -> Form:
    """The one version of the format that there is."""

    def check(value: Any, _base: Path) -> int:
        if value not in (1, "1") or isinstance(value, bool | float):
            fail("SF1047", "is not a version of this format that is known here", "write 1")
        return 1

    return Form("1", check, {"const": 1})


def flag() -> Form:
    """True or false."""

    def check(value: Any, _base: Path) -> bool:
        if value in ("true", "false"):
            return bool(value == "true")
        if not isinstance(value, bool):
            fail("SF1044", "is neither true nor false")
        return value

    own = {"type": "boolean"}
    return Form("true or false", check, {"anyOf": [own, INTERPOLATED]})


def choice(*words: str, later: Collection[str] = ()) -> Form:
    """One of a few words. `later` are words that have a meaning, but not in this version."""

    def check(value: Any, _base: Path) -> str:
        if isinstance(value, str) and value in words:
            return str(value)
        if isinstance(value, str) and value in later:
            fail("SF1041", "is not in this version", f"this version has {', '.join(words)}")
        fail_word(value, words)

    own = {"type": "string", "enum": list(words)}
    return Form(f"one of {', '.join(words)}", check, {"anyOf": [own, INTERPOLATED]})


def text(
    says: str,
    pattern: str = "",
    *,
    code: LiteralString = "SF1044",
    hint: str = "",
    length_max: int = _TEXT_MAX,
) -> Form:
    """Text without control characters, that matches a pattern as a whole."""
    compiled = re.compile(pattern, re.ASCII) if pattern else None

    def check(value: Any, _base: Path) -> str:
        found = line(value, says, length_max)
        if compiled is not None and not compiled.fullmatch(found):
            fail(code, f"is not {says}", hint)
        return found

    schema = _pattern(pattern) if pattern else {"type": "string", "minLength": 1}
    return Form(says, check, schema)


def free_text(says: str, length_max: int) -> Form:
    """Any text, empty too, without NUL."""

    def check(value: Any, _base: Path) -> str:
        if not isinstance(value, str):
            _not_text(value)
        if "\0" in value:
            fail("SF1044", "has a NUL character in it")
        if len(value) > length_max:
            fail("SF1042", f"has {len(value):,} characters, over the limit of {length_max:,}")
        return value

    return Form(says, check, {"type": "string", "maxLength": length_max})


def name(of: str) -> Form:
    """The name that somebody gives to a thing."""
    return text(
        f"a {of} name",
        NAME_PATTERN,
        code="SF1048",
        hint="use 1 to 63 letters, digits, - and _, with a letter or digit first",
    )


def variable() -> Form:
    """The name of an environment variable that a function may set."""

    def check(value: Any, _base: Path) -> str:
        found = line(value, says)
        if not matching.fullmatch(found):
            hint = "use at least two letters, digits and _, with a letter first"
            fail("SF1056", f"is not {says}", hint)
        if found in RESERVED or found.startswith("AWS_LAMBDA_"):
            fail("SF1058", "is reserved: the runtime sets it itself", "use another name")
        return found

    says = "a name of an environment variable"
    matching = re.compile(VARIABLE_PATTERN, re.ASCII)
    return Form(says, check, {"type": "string", "pattern": f"^{VARIABLE_PATTERN}$"})


def broker() -> Form:
    """The address of a Kafka broker."""

    def check(value: Any, _base: Path) -> str:
        found = line(value, says)
        if not matching.fullmatch(found):
            hint = f'write "{found}:9092"' if matching.fullmatch(f"{found}:9092") else ""
            fail("SF1052", f"is not {says}", hint)
        if not 1 <= int(found.rpartition(":")[2]) <= 65_535:
            fail("SF1052", "has a port that is not from 1 to 65,535")
        return found

    says = "a host and port, as in k1:9092"
    matching = re.compile(BROKER_PATTERN, re.ASCII)
    return Form(says, check, _pattern(BROKER_PATTERN))


def address() -> Form:
    """An address of this machine, with a port, to listen on."""

    def check(value: Any, _base: Path) -> str:
        found = line(value, says)
        host, _, port = found.rpartition(":")
        if not matching.fullmatch(found) or not _is_address(host):
            hint = 'write "127.0.0.1:9464"' if found.isdecimal() else ""
            fail("SF1086", f"is not {says}", hint)
        if not 1 <= int(port) <= 65_535:
            fail("SF1086", "has a port that is not from 1 to 65,535")
        return found

    says = "an address and port, as in 127.0.0.1:9464"
    matching = re.compile(ADDRESS_PATTERN, re.ASCII)
    return Form(says, check, _pattern(ADDRESS_PATTERN))


def regex() -> Form:
    """A regular expression, as text that compiles."""

    def check(value: Any, _base: Path) -> str:
        found = line(value, says, 255)
        try:
            with warnings.catch_warnings(action="error"):
                re.compile(found)
        except (re.error, OverflowError, RecursionError, Warning) as cause:
            fail("SF1054", f"is not {says}: {cause}")
        return found

    says = "a regular expression"
    return Form(says, check, {"type": "string", "minLength": 1, "maxLength": 255})


def start(*, times: bool = True) -> Form:
    """Where to begin: a word, or a time with its zone where there is such a thing."""

    def check(value: Any, _base: Path) -> str | datetime:
        found = line(value, says)
        if found in ("earliest", "latest"):
            return str(found)
        if not times:
            hint = "changes cannot be read from a time on" if _TIME.fullmatch(found) else ""
            fail("SF1050", f"is not {says}", hint or nearest(value, ("earliest", "latest")))
        if not _TIME.fullmatch(found):
            fail("SF1050", f"is not {says}", nearest(value, ("earliest", "latest")))
        try:
            return datetime.fromisoformat(found.upper()).astimezone(UTC)
        except (ValueError, OverflowError) as cause:
            fail("SF1050", f"is not a time: {cause}")

    says = "earliest, latest or a time like 2026-01-01T00:00:00Z" if times else "earliest or latest"
    words = {"type": "string", "enum": ["earliest", "latest"]}
    dated = [{"type": "string", "format": "date-time"}] if times else []
    return Form(
        says,
        check,
        {"anyOf": [words, *dated, INTERPOLATED]},
        lambda value: f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else str(value),
    )


def location(says: str) -> Form:
    """A path; a relative one starts at the configuration's directory."""

    def check(value: Any, base: Path) -> Path:
        found = line(value, says)
        if found.startswith("~"):
            fail("SF1044", "begins with ~, which only a shell knows", "write the whole path")
        return base / found

    return Form(says, check, {"type": "string", "minLength": 1})


def secret() -> Form:
    """A text that no output ever shows."""

    def check(value: Any, _base: Path) -> SecretStr:
        if not isinstance(value, str):
            fail("SF1044", "is not text: put it in quotes")
        if not value or _CONTROL.search(value) or len(value) > _TEXT_MAX:
            fail("SF1044", "is empty, too long, or has control characters in it")
        return SecretStr(value)

    schema = {"type": "string", "minLength": 1, "writeOnly": True}
    return Form("a secret; best from ${credential:name} or ${file:path}", check, schema)


def _is_address(host: str) -> bool:
    try:
        return host == "localhost" or bool(ip_address(host.strip("[]")))
    except ValueError:
        return False


def _pattern(pattern: str) -> dict[str, Any]:
    return {"anyOf": [{"type": "string", "pattern": f"^(?:{pattern})$"}, dict(INTERPOLATED)]}


def _unit(code: LiteralString, value: Any, kind: str, parse: Callable[[str], Any]) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        fail("SF1044", f"is not a {kind}")
    try:
        return parse(str(value))
    except units.UnitError as cause:
        fail(code, str(cause), cause.hint)


def _no_minus_one(value: Any, word: str) -> None:
    """Lambda's number for what has no limit."""
    if word and value in (-1, "-1"):
        fail("SF1042", "is not how no limit is written", f"write {word}")


def _within(found: float, low: float, high: float, value: Any, said: tuple[str, str]) -> None:
    if not found >= low:  # so that NaN is refused too
        fail("SF1042", f"is under the minimum of {said[0]}")
    if found > high:
        fail("SF1042", f"is over the limit of {said[1]}")


def line(value: Any, says: str, length_max: int = _TEXT_MAX) -> str:
    """The text, if it is one line of it."""
    if not isinstance(value, str):
        _not_text(value)
    if not value:
        fail("SF1044", f"is empty; it has to be {says}")
    if len(value) > length_max:
        fail("SF1042", f"has {len(value):,} characters, over the limit of {length_max:,}")
    if _CONTROL.search(value):
        fail("SF1044", "has control characters in it")
    return value


def _not_text(value: Any) -> NoReturn:
    if isinstance(value, bool | int | float):
        fail("SF1044", "is not text", "put it in quotes")
    fail("SF1044", "is not text")


def nearest(value: Any, words: tuple[str, ...]) -> str:
    """A hint at the word that was probably meant, or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(str(value).lower(), words, 1) if isinstance(value, str) else []
    return f"did you mean {near[0]}?" if near else ""
