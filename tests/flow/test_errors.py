from __future__ import annotations

from streamfaas.flow.errors import StoreError


def test_a_store_error_has_a_remedy_in_its_line():
    assert StoreError("full", "make room").line == "full; make room"
    assert StoreError("closed").line == "closed"
