"""What one invocation is told of the tumbling window that its batch is in."""

from __future__ import annotations

from streamfaas.flow.value import value


@value
class Window:
    """From `start_ms` up to `end_ms` (epoch milliseconds; the end is not in it)."""

    start_ms: int
    end_ms: int


@value
class Pane:
    """A window as an invocation sees it: the state (JSON) that was handed on to it, whether it is
    the last one in the window, and whether that comes before the window's end."""

    window: Window
    state: bytes
    final: bool = False
    early: bool = False
