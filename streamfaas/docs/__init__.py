"""The manual, as package data."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Explanation:
    """What there is to say about a code."""

    code: str
    title: str
    cause: str
    mend: str


PAGES = ("documents", "filters", "logs", "metrics", "otlp", "traces", "windows")
"""What has a page of its own."""


def topics() -> dict[str, str]:
    """Answers, by their word: short ones, and whole pages."""
    found = {}
    for part in _parts("topics.md"):
        word, _, text = part.partition("\n")
        found[word] = text.strip()
    return found | {page: _text(f"{page}.md").partition("\n")[2].strip() for page in PAGES}


def explanations() -> dict[str, Explanation]:
    """All problems of a configuration, and all that doctor finds, by code."""
    found = {}
    for part in (*_parts("problems.md"), *_parts("findings.md")):
        head, cause, mend = part.strip().split("\n")
        code, _, title = head.partition(" ")
        found[code] = Explanation(
            code, title, cause.removeprefix("Cause: "), mend.removeprefix("Mend: ")
        )
    return found


def _parts(page: str) -> list[str]:
    return _text(page).split("\n## ")[1:]


def _text(page: str) -> str:
    return files(__name__).joinpath(page).read_text(encoding="utf-8")
