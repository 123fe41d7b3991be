"""The whole error vocabulary: what the world, the operator, or we ourselves got wrong.

A function's failure is not here: it is a value (`flow.outcome.Failure`).
"""

from __future__ import annotations

from dataclasses import dataclass


class WorldError(Exception):
    """Something outside failed. Made only at the edge, with the cause kept; the mapping's
    supervisor waits and tries again, and neighbours go on."""


class Unreachable(WorldError):
    """Nobody answers: wait and try again, with jitter."""


class Refused(WorldError):
    """Credentials or permissions are wrong: try again slowly, and say so."""


class TooLarge(Refused):
    """What is to be sent is more than the other side ever takes: another try does not help."""


class Mistaken(Refused):
    """What is there is not what the configuration takes it for; no permission helps."""


class Gone(WorldError):
    """What was to be read no longer exists (topic, partition, offset, directory)."""


class Busy(WorldError):
    """The other side asks for less."""


class CannotIsolate(WorldError):
    """The machine cannot give a control that the function asked for. `remedy` says what helps."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class CannotSend(Exception):
    """What somebody wants to put into a source does not fit it. Nothing was sent."""


class CorruptBatch(Exception):
    """The bytes of a run do not match their checksum, from `position` on. The source reads them
    anew once; then the lane blocks."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"{reason} at position {position}")
        self.position = position


class ProtocolError(Exception):
    """A worker spoke out of turn or nonsense. It ends as a function error, never higher."""


class StoreError(Exception):
    """The local state cannot be used; `remedy` says what helps. Nothing was changed."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    @property
    def line(self) -> str:
        """What is wrong, and what helps."""
        return f"{self}; {self.remedy}" if self.remedy else str(self)


class BadPattern(Exception):
    """A filter pattern cannot be used: where in it (keys, and places in lists), what is wrong, and
    how to mend it."""

    def __init__(self, message: str, path: tuple[str | int, ...] = (), hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.hint = hint

    @property
    def where(self) -> str:
        """The path as people write it: `value.total[0].numeric`. Empty for the whole pattern."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return "".join(parts).removeprefix(".")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration: a code for `explain`, where, what, and how to mend it.
    `line` and `column` count from 1; 0 where there is no place."""

    code: str
    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    warning: bool = False


class ConfigError(Exception):
    """The operator's configuration is wrong: everything found, at once. `name` is the file's, and
    `text` what it holds, without its secrets, for showing the lines that the problems are in."""

    def __init__(self, problems: tuple[Problem, ...], name: str = "", text: str = "") -> None:
        assert problems
        super().__init__(f"{len(problems)} problem(s) in the configuration")
        self.problems = problems
        self.name = name
        self.text = text
