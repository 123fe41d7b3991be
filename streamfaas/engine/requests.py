"""Request ids: unique over restarts, cheap to make, of the form that Lambda's have."""

from __future__ import annotations

import os


class RequestIds:
    """Gives UUIDs of version 4 form whose last group counts up; the rest is drawn once."""

    def __init__(self) -> None:
        seed = os.urandom(8).hex()
        variant = "89ab"[int(seed[11], 16) % 4]
        self._prefix = f"{seed[:8]}-{seed[8:12]}-4{seed[12:15]}-{variant}{seed[13:16]}-"
        self._count = 0

    def __call__(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count:012x}"
