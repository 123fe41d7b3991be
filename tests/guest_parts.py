"""The guest's parts, made once: the compiled decoder can be made only once in a process."""

from __future__ import annotations

import functools

from streamfaas.guest.python.kafka import EventBuilder
from streamfaas.guest.python.libraries import Libraries, load_libraries
from streamfaas.guest.python.marshalling import make_measure
from zygote_harness import library_paths


@functools.cache
def libraries() -> Libraries:
    return load_libraries(library_paths())


def event_builder(event_bytes_max: int = 6 * 1024 * 1024) -> EventBuilder:
    return EventBuilder(libraries(), make_measure(libraries().orjson), event_bytes_max)
