from __future__ import annotations

import pytest

from streamfaas.flow.errors import Refused
from streamfaas.sources.kafka import member


def test_another_version_of_the_library_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(member.Fetcher, "seek_to", lambda self, tp, offset, extra: None)
    leaned_on = [
        (member.Fetcher.seek_to if part.__name__ == "seek_to" else part, names)
        for part, names in member._LEANED_ON
    ]
    monkeypatch.setattr(member, "_LEANED_ON", leaned_on)
    with pytest.raises(Refused, match=r"aiokafka 0\.14.*takes \(self tp offset extra\)"):
        member._check_library()
