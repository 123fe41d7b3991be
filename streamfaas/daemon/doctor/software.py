"""The Python that runs this, and the libraries that nothing works without: imported, and used."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

from streamfaas.daemon.doctor import Finding, bad, ok

PYTHON_MIN = (3, 11)

_TRIALS: dict[str, Callable[[Any], object]] = {
    "uvloop": lambda uvloop: uvloop.new_event_loop().close(),
    "orjson": lambda orjson: orjson.loads(orjson.dumps({"a": [1]}))["a"][0] == 1,
    "aiokafka": lambda aiokafka: aiokafka.TopicPartition("a", 0),
    "cramjam": lambda cramjam: cramjam.snappy.decompress_raw(cramjam.snappy.compress_raw(b"a")),
    "pybase64": lambda pybase64: pybase64.b64decode(pybase64.b64encode(b"a"), validate=True),
}
"""What each library is tried with: a compiled one may be there, and not load."""


def software() -> list[Finding]:
    """Blocks. Where it finds something bad, there is little use in anything else."""
    told = [f"python {platform.python_version()}"]
    found = []
    if sys.version_info < PYTHON_MIN:  # whoever installed it by force
        found.append(
            bad("python", f"{told[0]} is too old", "run it with Python 3.11 or newer", "SF3001")
        )
    for name, use in _TRIALS.items():
        try:
            use(importlib.import_module(name))
            told.append(f"{name} {metadata.version(name)}")
        except (ImportError, OSError, AttributeError) as error:
            remedy = f"{sys.executable} -m pip install --force-reinstall {name}"
            found.append(bad(name, f"{name} does not load: {error}", remedy, "SF3001"))
    return found or [ok("software", ", ".join(told))]
