from __future__ import annotations

import sys

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from streamfaas.guest.python.libraries import load_libraries
from zygote_harness import library_paths


def modules() -> dict[str, int]:
    return {name: id(sys.modules[name]) for name in sys.modules if name.startswith("aiokafka")}


def test_a_library_that_is_in_use_already_is_the_very_same_afterwards() -> None:
    before = modules()
    load_libraries(library_paths())
    assert modules() == before
    assert AIOKafkaClient.__module__ in before
    from aiokafka import errors

    assert errors.KafkaError is KafkaError
