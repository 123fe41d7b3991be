"""What to run: a function's code, handler and limits, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streamfaas.flow.admission import Share

MIB = 1024 * 1024

DATA_MIB = 512
"""What a process may allocate beyond the function's memory. The kernel counts what is asked for,
not what is used: the stack of a thread alone counts 8 MB."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of the host that workers of a function see at `inside`."""

    outside: Path
    inside: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a worker may touch. `enforce` refuses the function where the machine cannot give a
    control; otherwise it starts, and the level is shown."""

    enforce: bool = True
    network: str = "host"  # or "none"
    tmp_bytes: int = 512 * MIB
    files_max: int = 1024
    processes_max: int = 256
    data_bytes: int | None = None  # RLIMIT_DATA; None: by the function's memory


@dataclass(frozen=True, slots=True)
class Function:
    """One function as configured. `code` is a directory; `handler` is `module.function` in it.
    `venv` is the directory of a virtual environment whose packages the handler may import."""

    name: str
    code: Path
    handler: str
    memory_mb: int = 128
    timeout_seconds: float = 3.0
    init_seconds: float = 10.0
    env: Mapping[str, str] = field(default_factory=dict)
    aws: Mapping[str, str] = field(default_factory=dict, repr=False)  # for SDKs; env goes before
    venv: Path | None = None
    mounts: tuple[Mount, ...] = ()
    isolation: Isolation = field(default_factory=Isolation)
    share: Share = field(default_factory=Share)
    platform_logs: bool = True  # START, END and REPORT lines for each invocation
    log_bytes_max: int = MIB  # output kept of one invocation
    log_rate_max: int = 2 * MIB  # bytes of output that all its workers keep in a second
    log_format: str = "text"  # or "json"
    log_level: str = ""  # what records need at least, in JSON; Lambda's name of it
    system_level: str = "info"  # the same of the platform's own, in small letters
    region: str = "us-east-1"
    account: str = "000000000000"

    @property
    def data_bytes(self) -> int:
        """Most that one process of a worker may allocate."""
        asked = self.isolation.data_bytes
        return asked or (max(self.memory_mb, DATA_MIB) + DATA_MIB) * MIB

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{self.name}"
