"""A machine is booted in software, and says what became of each step."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from machine.image import Image

BOOT_SECONDS = 900.0
"""For everything from the first instruction to the end: some 3 minutes on two quiet cores."""

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Told:
    """Of one step."""

    step: str
    passed: bool
    seconds: float
    said: Any

    @property
    def lines(self) -> list[str]:
        text = self.said if isinstance(self.said, str) else json.dumps(self.said, indent=1)
        return text.splitlines()


class Machine:
    """Boots the image once. A context manager: with it the machine ends, however far it is."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.console, self.report = image.folder / "console.log", image.folder / "report.log"

    def __enter__(self) -> Self:
        for file in (self.console, self.report):
            file.touch()
        self._began = time.monotonic()
        self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait(10)

    @property
    def seconds(self) -> float:
        """Since it was switched on."""
        return time.monotonic() - self._began

    def steps(self) -> Iterator[Told]:
        """Each as soon as it is over. `TimeoutError`, or `EOFError` where the machine ends early."""
        seen = 0
        while True:
            ended = self._process.poll() is not None
            lines = self.report.read_text(errors="replace").split("\n")[:-1]
            for line in lines[seen:]:
                before, mark, told = line.partition("PROBE ")
                found = json.loads(told) if mark and not before.strip() else {}
                if found.get("over"):
                    return
                if found:
                    yield Told(**found)
            seen = len(lines)
            if ended:
                raise EOFError(f"the machine ended early:\n{self.last_words()}")
            if self.seconds > BOOT_SECONDS:
                raise TimeoutError(f"not over in {BOOT_SECONDS:.0f} s:\n{self.last_words()}")
            time.sleep(_LOOK_SECONDS)

    def switched_off(self, seconds: float = 120.0) -> bool:
        """Whether it then ends by itself."""
        try:
            return self._process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            return False

    def last_words(self, lines: int = 25) -> str:
        texts = (
            file.read_text(errors="replace").splitlines() for file in (self.console, self.report)
        )
        return "\n".join(line for text in texts for line in text[-lines:])

    def _command(self) -> list[str | Path]:
        """Without KVM, which not every machine lends; without a network."""
        cores = max(1, min(4, len(os.sched_getaffinity(0))))
        return [
            "qemu-system-x86_64",
            *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(cores), "-m", "2048"),
            *("-kernel", self.image.kernel, "-initrd", self.image.initrd),
            *("-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1"),
            *("-drive", f"file={self.image.disk},format=raw,if=virtio,cache=unsafe"),
            *("-serial", f"file:{self.console}", "-serial", f"file:{self.report}"),
            *("-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"),
        ]
