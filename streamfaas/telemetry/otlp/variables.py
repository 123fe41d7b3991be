"""The variables of OpenTelemetry: what makes no sense is told in a line, and not followed."""

from __future__ import annotations

from collections.abc import Mapping

_OF_ALL = "OTEL_EXPORTER_OTLP_"


class Variables:
    """Reads them; `warnings` is what there is to say of them. No value is ever told: it may be a
    secret, or in the wrong variable."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.warnings: list[str] = []

    def text(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def of(self, signal: str, name: str) -> str:
        """What OTEL_EXPORTER_OTLP_… says of one signal, or of all."""
        own = self.text(f"{_OF_ALL}{signal.upper()}_{name}") if signal else ""
        return own or self.text(f"{_OF_ALL}{name}")

    def flag(self, name: str) -> bool:
        word = self.text(name).lower()
        if word not in ("", "true", "false"):
            self.warn(f"{name} is neither true nor false: false it is")
        return word == "true"

    def word(self, signal: str, name: str, words: tuple[str, ...], default: str) -> str:
        return self._word(f"{_OF_ALL}{name}", self.of(signal, name), words, default)

    def one_of(self, name: str, words: tuple[str, ...], default: str) -> str:
        return self._word(name, self.text(name), words, default)

    def seconds(self, signal: str, name: str, default: float, most: float) -> float:
        return self._number(f"{_OF_ALL}{name}", self.of(signal, name), default, most)

    def milliseconds(self, name: str, default: float, most: float) -> float:
        """A time, as seconds."""
        most_ms = most * 1_000
        return self._number(name, self.text(name), default * 1_000, most_ms, " ms") / 1_000

    def whole(self, name: str, default: int, most: int) -> int:
        return int(self._number(name, self.text(name), default, most, ""))

    def warn(self, line: str) -> None:
        self.warnings.append(line)

    def _word(self, name: str, text: str, words: tuple[str, ...], default: str) -> str:
        found = text.lower()
        if not found or found in words:
            return found or default
        self.warn(f"{name} is none of {', '.join(words)}: {default} it is")
        return default

    def _number(self, name: str, text: str, default: float, most: float, unit: str = " s") -> float:
        if not text:
            return default
        try:
            found = float(text)
        except ValueError:
            found = 0.0
        if 0.0 < found <= most and (unit or found == int(found)):
            return found
        self.warn(f"{name} is no number over 0 and up to {most:g}{unit}: {default:g}{unit} it is")
        return default
