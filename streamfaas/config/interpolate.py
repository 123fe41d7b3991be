"""What stands in `${…}`: variables of the environment, credentials and small files.

Only in values, after the YAML is parsed, and only once: what is put in is never looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from streamfaas.config import document
from streamfaas.config.document import Scalar, Table
from streamfaas.config.files import read_small
from streamfaas.flow.errors import Problem

FILE_BYTES_MAX = 64 << 10
TOTAL_MAX = 1 << 20
"""All that is put in, in characters: a small file cannot grow without bound."""

_PLACE = re.compile(r"\$\$|\$\{([^}]*)(\}?)", re.DOTALL)
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,254})(?:(:-|:\?)(.*))?", re.ASCII | re.DOTALL)
_CREDENTIAL = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,255}", re.ASCII)


class _Wrong(Exception):
    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def interpolate(root: Table, base: Path, environ: Mapping[str, str]) -> list[Problem]:
    """Fills in every value of the tree, in place, and tells what could not be."""
    problems: list[Problem] = []
    read = _Reader(base, environ)
    for path, scalar in document.scalars(root):
        if not isinstance(scalar.value, str) or "$" not in scalar.value:
            continue
        try:
            _fill(scalar, read)
        except _Wrong as wrong:
            problems.append(
                Problem(
                    wrong.code,
                    document.dotted(path),
                    scalar.line,
                    scalar.column,
                    str(wrong),
                    wrong.hint,
                )
            )
            scalar.value = None
            scalar.origin = "nothing"
    return problems


def _fill(scalar: Scalar, read: _Reader) -> None:
    assert isinstance(scalar.value, str)
    origins: list[str] = []

    def put(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if not found[2]:
            raise _Wrong("SF1031", "${ is not closed", "close it with }, or write $$ for a $")
        origin, text = read(found[1])
        origins.append(origin)
        return text

    scalar.value = _PLACE.sub(put, scalar.value)
    scalar.origin = ", ".join(origins)
    scalar.hidden = any(not origin.startswith("environment ") for origin in origins)


class _Reader:
    """Gives the origin and the text of one expression."""

    def __init__(self, base: Path, environ: Mapping[str, str]) -> None:
        self._base = base
        self._environ = environ
        self._left = TOTAL_MAX
        self._files: dict[Path, str] = {}

    def __call__(self, expression: str) -> tuple[str, str]:
        origin, text = self._text(expression)
        self._left -= len(text)
        if self._left < 0:
            raise _Wrong("SF1002", f"all that is put in comes to over {TOTAL_MAX >> 20} MiB")
        return origin, text

    def _text(self, expression: str) -> tuple[str, str]:
        if "${" in expression:
            raise _Wrong("SF1031", "${ inside of ${…} is not filled in", "use one level only")
        kind, _, rest = expression.partition(":")
        source: Callable[[str], str] | None = {
            "credential": self._credential,
            "file": self._file,
        }.get(kind)
        if source is not None and not rest.startswith(("-", "?")):
            return f"{kind} {rest}", source(rest)
        found = _VARIABLE.fullmatch(expression)
        if found is None:
            raise _Wrong(
                "SF1031",
                "${…} holds nothing that can be filled in",
                "write ${NAME}, ${NAME:-default}, ${NAME:?message}, ${credential:name} or "
                "${file:path}; $$ is a $",
            )
        return f"environment {found[1]}", self._variable(found[1], found[2] or "", found[3] or "")

    def _variable(self, name: str, operator: str, word: str) -> str:
        value = self._environ.get(name)
        if value is not None and (value or not operator):
            return value
        if operator == ":-":
            return word
        if operator == ":?" and word:
            raise _Wrong("SF1030", f"{name}: {word}")
        raise _Wrong(
            "SF1030",
            f"the environment has no variable {name}",
            f"set it, or give a default: ${{{name}:-…}}",
        )

    def _credential(self, name: str) -> str:
        if not _CREDENTIAL.fullmatch(name):
            raise _Wrong("SF1031", "the credential's name is not one", "use letters, digits, . _ -")
        directory = self._environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise _Wrong(
                "SF1032",
                f"there is no credential {name}: CREDENTIALS_DIRECTORY is not set",
                f"run as a systemd service with LoadCredential={name}:…, or use ${{file:…}}",
            )
        return self._contents(Path(directory) / name, "SF1032", f"the credential {name}")

    def _file(self, name: str) -> str:
        if not name or "\0" in name:
            raise _Wrong("SF1031", "${file:} names no file", "write ${file:path}")
        return self._contents(self._base / name, "SF1033", f"the file {document.dotted((name,))}")

    def _contents(self, path: Path, code: str, what: str) -> str:
        if path not in self._files:
            self._files[path] = _contents(path, code, what)
        return self._files[path]


def _contents(path: Path, code: str, what: str) -> str:
    """The text of a small regular file, without the newline at its end."""
    try:
        data, _ = read_small(path, FILE_BYTES_MAX)
    except OSError as cause:
        raise _Wrong(code, f"{what} cannot be read: {cause.strerror}") from cause
    if len(data) > FILE_BYTES_MAX:
        raise _Wrong(code, f"{what} is larger than {FILE_BYTES_MAX >> 10} KiB")
    try:
        text = data.decode()
    except UnicodeDecodeError as cause:
        raise _Wrong(code, f"{what} is not UTF-8 text") from cause
    return text.removesuffix("\n").removesuffix("\r")
