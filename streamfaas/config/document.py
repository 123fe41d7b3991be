"""YAML text to a tree in which every key and value knows its line and column.

YAML 1.2, and of it only what a configuration needs: one document, no tags, no anchors, no merge
keys. The parser hands over events, and the tree is built with a stack of its own, so no input can
exhaust Python's. What YAML 1.1 and 1.2 read differently is refused instead of guessed at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from streamfaas.flow.errors import Problem

MASK = "***"

BLOT = "\0"
"""Stands for each character of a secret in a text that is shown; reports make a MASK of them."""

BYTES_MAX = 1 << 20
DEPTH_MAX = 64
NODES_MAX = 100_000

PROBLEMS_MAX = 1_000
"""More than anybody reads: the rest is not worth finding words for."""


class Hidden(str):
    """A text that came from a credential or a file: it prints as `***` wherever it is shown by
    `repr`, and so in every model's."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK


@dataclass(slots=True)
class Scalar:
    """One value. `origin` tells what was put into it (`environment X`, …), `hidden` that it must
    not be shown; `quoted` that it was text already in the file."""

    value: str | int | float | bool | None
    line: int
    column: int
    quoted: bool = False
    origin: str = ""
    hidden: bool = False
    end: tuple[int, int] = (0, 0)  # where the next thing may begin


@dataclass(slots=True)
class Items:
    """A list."""

    line: int
    column: int
    values: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Table:
    """A mapping. `keys` holds where each key stands, first of all by itself."""

    line: int
    column: int
    values: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)


Node: TypeAlias = Scalar | Items | Table
Path: TypeAlias = tuple[str | int, ...]


class Unreadable(Exception):
    """The text cannot be made a tree."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def decode(data: bytes) -> str:
    """The text of a file's bytes. `Unreadable` where it is not plain UTF-8 of a bearable size."""
    if len(data) > BYTES_MAX:
        raise _unreadable("SF1002", 0, 0, f"the file is larger than {BYTES_MAX >> 20} MiB")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _unreadable("SF1003", 1, 1, "the file is UTF-16", "save it as UTF-8")
    try:
        return data.decode()
    except UnicodeDecodeError as cause:
        before = data[: cause.start].decode()
        line, column = _place(before, len(before))
        raise _unreadable(
            "SF1003",
            line,
            column,
            f"byte 0x{data[cause.start]:02x} is not UTF-8",
            "save it as UTF-8",
        ) from cause


def parse(text: str) -> tuple[Table, list[Problem]]:
    """The tree, and what was wrong with it although it could be read; else `Unreadable`."""
    if len(text) > BYTES_MAX:
        raise _unreadable("SF1002", 0, 0, f"the file is larger than {BYTES_MAX >> 20} MiB")
    _refuse_odd_characters(text)
    builder = _Builder()
    for event in _events(text):
        builder.take(event)
    root = builder.root
    if not isinstance(root, Table):
        line, column = (root.line, root.column) if root is not None else (1, 1)
        hint = "begin with `version: 1`"
        what = "is empty" if root is None or _empty(root) else "does not hold a mapping"
        raise _unreadable("SF1012", line, column, f"the file {what}", hint)
    return root, builder.problems


def plain(node: Node) -> Any:
    """The tree as dicts, lists and values."""
    match node:
        case Scalar(value=str() as text, hidden=True):
            return Hidden(text)
        case Scalar(value=value):
            return value
        case Items(values=values):
            return [plain(value) for value in values]
        case Table(values=entries):
            return {key: plain(value) for key, value in entries.items()}


def scalars(root: Node) -> Iterator[tuple[Path, Scalar]]:
    """Every value with its path, in no promised order."""
    todo: list[tuple[Path, Node]] = [((), root)]
    while todo:
        path, node = todo.pop()
        inside: Iterable[tuple[str | int, Node]] = ()
        match node:
            case Scalar():
                yield path, node
            case Items(values=values):
                inside = enumerate(values)
            case Table(values=entries):
                inside = entries.items()
        for key, value in inside:
            if isinstance(value, Scalar):  # almost all are
                yield (*path, key), value
            else:
                todo.append(((*path, key), value))


def find(root: Table, path: Sequence[str | int]) -> Node | None:
    """The node at a path, if there is one."""
    node: Node = root
    for part in path:
        match node, part:
            case Table(values=entries), str() if part in entries:
                node = entries[part]
            case Items(values=values), int() if part < len(values):
                node = values[part]
            case _:
                return None
    return node


def place(root: Table, path: Sequence[str | int], *, key: bool = False) -> tuple[int, int]:
    """Line and column of the value at a path, or of its key; where there is none, of the key of
    the nearest thing around it."""
    for end in range(len(path), 0, -1):
        node = find(root, path[:end])
        if node is None:
            continue
        if end == len(path) and not key and not _empty(node):
            return node.line, node.column
        around = find(root, path[: end - 1])
        if isinstance(around, Table):
            return around.keys[str(path[end - 1])]
        return node.line, node.column
    return 1, 1


def blotted(text: str, values: Sequence[Scalar]) -> str:
    """The text with each of the values replaced by as many `BLOT`."""
    kept = list(text)
    starts = [0, *(found.end() for found in _BREAK.finditer(text))]
    for value in values:
        stop = starts[value.end[0] - 1] + value.end[1] - 1
        for at in range(starts[value.line - 1] + value.column - 1, min(stop, len(kept))):
            if kept[at] not in "\r\n":
                kept[at] = BLOT
    return "".join(kept)


def dotted(path: Sequence[str | int]) -> str:
    """A path as people write it; odd keys are quoted and escaped."""
    return ".".join(
        part if isinstance(part, str) and _TAME.fullmatch(part) else json.dumps(part)
        for part in path
    )


_TAME = re.compile(r"[A-Za-z0-9_:/@$*-]{1,100}", re.ASCII)
_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")
_ODD = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)

_NULL = re.compile(r"~|null|Null|NULL|", re.ASCII)
_TRUE = re.compile("true|True|TRUE", re.ASCII)
_FALSE = re.compile("false|False|FALSE", re.ASCII)
_INT = re.compile(r"[-+]?[0-9]{1,30}|0x[0-9a-fA-F]{1,16}", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,3})?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    re.ASCII,
)
_OTHERWISE = (
    (re.compile("yes|Yes|YES|on|On|ON", re.ASCII), "text here, but true to YAML 1.1", "true"),
    (re.compile("no|No|NO|off|Off|OFF", re.ASCII), "text here, but false to YAML 1.1", "false"),
    (
        re.compile(r"[-+]?0[0-9][0-9_]*(\.[0-9_]*)?", re.ASCII),
        "a number with a leading zero, octal to some",
        "it without the zero",
    ),
    (
        re.compile("[-+]?0o[0-7]+|[-+]?0b[01_]+", re.ASCII),
        "octal or binary to some",
        "it in decimal",
    ),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?", re.ASCII),
        "text here, but a number of base 60 to YAML 1.1",
        "",
    ),
    (
        re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?", re.ASCII),
        "text here, but a number to YAML 1.1",
        "",
    ),
)


def _events(text: str) -> Iterator[Any]:
    # the parser only, and the compiled one where there is one (1 MiB in a fifth of a second, where
    # one in Python takes several): what a word means is decided here, by the rules of YAML 1.2
    import yaml  # type: ignore[import-untyped]

    try:
        yield from yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as cause:
        raise _syntax(cause, text) from cause
    except yaml.YAMLError as cause:
        raise _unreadable("SF1004", 0, 0, f"not YAML: {str(cause).splitlines()[0]}") from cause


def _syntax(cause: Any, text: str) -> Unreadable:
    mark = cause.problem_mark or cause.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    lines = _BREAK.split(text)
    at = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\t" in at[: len(at) - len(at.lstrip())]:
        column = at.index("\t") + 1
        return _unreadable("SF1004", line, column, "a tab in the indentation", "use spaces")
    found = str(cause.problem)
    since = cause.context_mark.line + 1 if cause.context_mark else line
    hint = _MENDS.get(found, "")
    if found.startswith("did not find expected ',' or"):
        hint = f"the bracket of line {since} is not closed, or a comma is missing"
    elif found == "found unexpected end of stream":
        hint = f"the quote of line {since} is not closed"
    elif found.startswith(("did not find expected key", "did not find expected '-'")):
        hint = f"what began at line {since} is indented otherwise"
    return _unreadable("SF1004", line, column, f"not YAML: {found}", hint)


_MENDS = {
    "mapping values are not allowed in this context": "indent as the lines around, or put a text "
    "that has a colon in quotes",
    "found character that cannot start any token": "put the text in quotes",
    "could not find expected ':'": "write `key: value`, with a space after the colon",
    "found unknown escape character": "write the backslash twice, or use single quotes",
}


def _refuse_odd_characters(text: str) -> None:
    if text.startswith("\ufeff"):
        raise _unreadable(
            "SF1003", 1, 1, "the file begins with a byte order mark", "save it as UTF-8 without one"
        )
    odd = _ODD.search(text)
    if odd is not None:
        line, column = _place(text, odd.start())
        raise _unreadable("SF1003", line, column, f"control character U+{ord(odd[0]):04X}")


def _place(text: str, at: int) -> tuple[int, int]:
    lines = _BREAK.split(text[:at])
    return len(lines), len(lines[-1]) + 1


def _unreadable(code: str, line: int, column: int, message: str, hint: str = "") -> Unreadable:
    return Unreadable(Problem(code, "", line, column, message, hint))


def _empty(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None and not node.quoted


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is being filled. `key` is the one that waits for its value."""

    node: Items | Table
    key: str | None = None
    key_place: tuple[int, int] = (0, 0)
    twin: bool = False  # the key was there before: its value is dropped
    is_key: bool = False  # this collection stands where a key should


class _Builder:
    """Events in, tree out."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._stack: list[_Frame] = []
        self._nodes = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        kind = type(event).__name__
        if kind in ("ScalarEvent", "SequenceStartEvent", "MappingStartEvent", "AliasEvent"):
            self._count(line, column)
            self._refuse_extras(event, line, column)
        match kind:
            case "ScalarEvent":
                self._scalar(event, line, column)
            case "SequenceStartEvent":
                self._open(Items(line, column))
            case "MappingStartEvent":
                self._open(Table(line, column))
            case "SequenceEndEvent" | "MappingEndEvent":
                self._close()
            case "AliasEvent":
                self._value(Scalar(None, line, column))
            case "DocumentStartEvent":
                self._document(event, line, column)

    def _count(self, line: int, column: int) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _unreadable(
                "SF1002", line, column, f"the file has over {NODES_MAX:,} keys and values"
            )

    def _refuse_extras(self, event: Any, line: int, column: int) -> None:
        if event.anchor is not None:
            self._complain(
                "SF1007",
                (line, column),
                "anchors and aliases are not read",
                "write it out, or use `defaults`",
            )
        if getattr(event, "tag", None) is not None:
            self._complain("SF1008", (line, column), "tags are not read", "leave the tag out")

    def _document(self, event: Any, line: int, column: int) -> None:
        self._documents += 1
        if self._documents > 1:
            raise _unreadable(
                "SF1009", line, column, "a second document begins", "use one file for each"
            )
        if event.version not in (None, (1, 2)) or event.tags:
            raise _unreadable("SF1009", 1, 1, "a directive that is not `%YAML 1.2`", "leave it out")

    def _scalar(self, event: Any, line: int, column: int) -> None:
        quoted = event.style not in ("", None)
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.node, Table) and top.key is None:
            self._key(top, event.value, (line, column), quoted=quoted)
            return
        value = event.value if quoted else self._resolved(event.value, line, column)
        end = (event.end_mark.line + 1, event.end_mark.column + 1)
        self._value(Scalar(value, line, column, quoted, end=end))

    def _key(self, frame: _Frame, key: str, at: tuple[int, int], *, quoted: bool) -> None:
        assert isinstance(frame.node, Table)
        frame.key, frame.key_place = key, at
        frame.twin = key in frame.node.values
        if frame.twin:
            first = frame.node.keys[key]
            self._complain(
                "SF1006", at, f"the key is there already, at line {first[0]}", path=(key,)
            )
        elif key == "<<" and not quoted:
            self._complain(
                "SF1007", at, "merge keys are not read", "write it out, or use `defaults`"
            )
            frame.twin = True
        elif not key:
            self._complain("SF1011", at, "the key is empty")

    def _value(self, node: Node) -> None:
        if not self._stack:
            self.root = node
            return
        top = self._stack[-1]
        if isinstance(top.node, Items):
            top.node.values.append(node)
        elif top.key is None:  # a collection or an alias as a key
            self._complain("SF1011", (node.line, node.column), "the key is not text")
            top.key, top.twin = "", True
        else:
            if not top.twin:
                top.node.values[top.key] = node
                top.node.keys[top.key] = top.key_place
            top.key = None

    def _open(self, node: Items | Table) -> None:
        if len(self._stack) >= DEPTH_MAX:
            raise _unreadable(
                "SF1005", node.line, node.column, f"nested over {DEPTH_MAX} levels deep"
            )
        self._stack.append(_Frame(node))

    def _close(self) -> None:
        self._value(self._stack.pop().node)

    def _resolved(self, text: str, line: int, column: int) -> str | int | float | bool | None:
        """What a word without quotes means in YAML 1.2."""
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text):
            return True
        if _FALSE.fullmatch(text):
            return False
        for pattern, what, instead in _OTHERWISE:
            if pattern.fullmatch(text):
                either = f", or write {instead}" if instead else ""
                shown = text if len(text) <= 40 else text[:40] + "…"
                self._complain("SF1010", (line, column), f"{shown} is {what}", f"quote it{either}")
                return text
        if _INT.fullmatch(text):
            return int(text, 16 if text.startswith("0x") else 10)
        if _FLOAT.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return text

    def _complain(
        self, code: str, at: tuple[int, int], message: str, hint: str = "", *, path: Path = ()
    ) -> None:
        if len(self.problems) >= PROBLEMS_MAX:
            return
        around = [
            frame.key if isinstance(frame.node, Table) else len(frame.node.values)
            for frame in self._stack
        ]
        if path:
            around.pop()
        where = (*(part for part in around if part is not None), *path)
        self.problems.append(Problem(code, dotted(where), *at, message, hint))
