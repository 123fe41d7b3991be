"""What the daemon asks of one function's sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of the host that workers see at `inside`."""

    outside: str
    inside: str
    writable: bool


@dataclass(frozen=True, slots=True)
class Spec:
    """The part of the daemon's first packet that the sandbox reads; the guest gets all of it."""

    function: str
    code: str
    venv: str | None
    mounts: tuple[Mount, ...]
    enforce: bool
    network: str
    tmp_bytes: int
    files_max: int
    processes_max: int
    data_bytes: int | None
    uid: int | None
    entry: str


def read_spec(packet: dict[str, Any]) -> Spec:
    """Reads the packet; `KeyError` or `ValueError` where it is none of ours."""
    if packet["type"] != "spec":
        raise ValueError(f"expected a spec, got {packet['type']!r}")
    if packet["network"] not in {"host", "none"}:
        raise ValueError(f"network is {packet['network']!r}, not host or none")
    return Spec(
        function=packet["function"],
        code=packet["code"],
        venv=packet["venv"],
        mounts=tuple(
            Mount(outside=each["outside"], inside=each["inside"], writable=each["writable"])
            for each in packet["mounts"]
        ),
        enforce=packet["enforce"],
        network=packet["network"],
        tmp_bytes=packet["tmp_bytes"],
        files_max=packet["files_max"],
        processes_max=packet["processes_max"],
        data_bytes=packet["data_bytes"],
        uid=packet["uid"],
        entry=packet["entry"],
    )
