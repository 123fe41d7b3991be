"""What configuration runs, whether its file says so too, and what became of the last reload."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from streamfaas.daemon.loading import Loaded, Unlike
from streamfaas.daemon.reload import Reached, Reloaded


class Standing:
    """`reached` is told of each step of a reload, too."""

    def __init__(self, loaded: Loaded, reached: Reached) -> None:
        self._reached = reached
        self._step = ""
        self._last: Reloaded | None = None
        self._of_another_file = False
        self.take(loaded)

    def take(self, loaded: Loaded) -> None:
        """Another one runs from here on."""
        self._loaded = loaded
        self._differs = Unlike(loaded.plan.config_path, loaded.digest)

    def step(self, name: str) -> None:
        """A reload is under way, and this comes next."""
        self._step = name
        self._reached(name)

    def ended(self, last: Reloaded | None) -> None:
        """It is over; None where it was broken off."""
        self._step = ""
        if last is not None:
            self._last = last
            self._of_another_file = self._differs()

    def view(self) -> dict[str, Any]:
        """`reason` is why what the file says does not run: nothing, once the file that failed is
        again what runs; `last_reason` stays."""
        last, differs = self._last, self._differs()
        reason = "" if last is None else last.reason
        loaded = datetime.fromtimestamp(self._loaded.at, UTC)
        return {
            "digest": self._loaded.digest,
            "loaded": loaded.isoformat(timespec="seconds"),
            "differs": differs,
            "reloading": self._step,
            "last_reload": None if last is None else last.state,
            "reason": "" if self._of_another_file and not differs else reason,
            "last_reason": reason,
        }
