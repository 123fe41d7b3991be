"""Who takes what is posted where, while triggers come and go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from streamfaas.api.addresses import Listener
from streamfaas.api.webhooks import webhooks
from streamfaas.wire.inbound import Answer, Desk

AGAIN_SECONDS = 5
"""When a store may try again while its trigger is not there."""

Paths: TypeAlias = Mapping[str, frozenset[str]]
"""The paths that are configured at each address."""


class DeskRoom:
    """The desks of all addresses. Where a trigger is configured and not there (it begins, or its
    store of events fails), who posts is told to come again."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._desks: dict[tuple[str, str], Desk] = {}

    def place(self, address: str, path: str, desk: Desk) -> Callable[[], None]:
        """As `wire.inbound.Desks` says."""
        at = (address, path)
        self._desks[at] = desk

        def leave() -> None:
            if self._desks.get(at) is desk:
                del self._desks[at]

        return leave

    def listener(self, address: str) -> Listener:
        return webhooks(address, lambda path: self._find(address, path))

    def _find(self, address: str, path: str) -> Desk | Answer:
        if (desk := self._desks.get((address, path))) is not None:
            return desk
        if path in self.paths.get(address, ()):
            return Answer(503, "the trigger is not ready: try again", AGAIN_SECONDS)
        return Answer(404, "no trigger has this path")
