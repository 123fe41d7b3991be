"""Rules of what is told to whom."""

from __future__ import annotations

from collections.abc import Iterator

from streamfaas.config.rules.case import Case, is_loopback
from streamfaas.flow.errors import Problem


def _listens_to_all(case: Case) -> Iterator[Problem]:
    address = case.config.telemetry.metrics.listen
    if address is not None and not is_loopback(address):
        yield case.tell(
            "SF1098",
            ("telemetry", "metrics", "listen"),
            f"whoever reaches {address} reads metrics and probes: there are no credentials",
            "listen on 127.0.0.1, or let a firewall say who may",
            warning=True,
        )


RULES = (_listens_to_all,)
