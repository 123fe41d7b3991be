"""The model of traces: how many are kept, and which in any case."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from streamfaas.config import forms, units
from streamfaas.config.forms import Form
from streamfaas.config.model import Model
from streamfaas.flow.trace import LINKS_MAX

_ERRORS = "errors"
_SLOW = "slow>"


def _always() -> Form:
    """What is kept whatever the sample is."""

    def check(value: Any, _base: Path) -> str:
        found = forms.line(value, says)
        if found == _ERRORS:
            return found
        if not found.startswith(_SLOW):
            hint = forms.nearest(found, (_ERRORS, "slow>2s")) or f"write {_ERRORS}, or slow>2s"
            forms.fail("SF1047", f"is not {says}", hint)
        try:
            units.parse_duration(found.removeprefix(_SLOW))
        except units.UnitError as cause:
            forms.fail("SF1045", f"{cause} after slow>", cause.hint or "write slow>2s")
        return found

    says = "errors, or slow> and a duration"
    pattern = f"^({_ERRORS}|{_SLOW}{units.DURATION_PATTERN})$"
    own = {"type": "string", "pattern": pattern}
    return Form(says, check, {"anyOf": [own, dict(forms.INTERPOLATED)]})


class Traces(Model):
    """Which traces are kept. Nothing of records is in them."""

    sample: Annotated[float, forms.number(0, 1)] = Field(
        default=0.05,
        description="Part of all batches whose trace is kept, whatever becomes of them. "
        "OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG win over it.",
    )
    always_sample: tuple[Annotated[str, _always()], ...] = Field(
        default=(_ERRORS, "slow>2s"),
        description="What is kept beside it: errors (something failed, was tried again, split or "
        "set aside), slow>2s (a batch took longer than that to be finished with).",
        examples=[[_ERRORS, "slow>500ms"]],
    )
    max_links: Annotated[int, forms.whole(0, LINKS_MAX)] = Field(
        default=512,
        description="Traces of producers that one batch is linked to; the rest is counted. "
        "OTEL_SPAN_LINK_COUNT_LIMIT wins over it.",
    )
    keep: Annotated[int, forms.whole(0, 10_000)] = Field(
        default=200, description="Traces that stay in the daemon, for `streamfaas traces`."
    )

    @property
    def errors(self) -> bool:
        return _ERRORS in self.always_sample

    @property
    def slow_seconds(self) -> float | None:
        told = [each.removeprefix(_SLOW) for each in self.always_sample if each != _ERRORS]
        return min(map(units.parse_duration, told), default=None)
