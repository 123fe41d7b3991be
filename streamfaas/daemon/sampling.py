"""How traces are sampled: what the configuration says, and what OpenTelemetry's variables do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from streamfaas.config.tracing import Traces
from streamfaas.flow.trace import LINKS_MAX
from streamfaas.telemetry.recorder import Sampling

SAMPLER = "OTEL_TRACES_SAMPLER"
ARGUMENT = "OTEL_TRACES_SAMPLER_ARG"
LINKS = "OTEL_SPAN_LINK_COUNT_LIMIT"

_FIXED: Mapping[str, float] = {"always_on": 1.0, "always_off": 0.0}
_RATIO = "traceidratio"
_FOLLOWING = "parentbased_"


def sampling_of(traces: Traces, environ: Mapping[str, str]) -> tuple[Sampling, tuple[str, ...]]:
    """How, and what is to be told of it at the start: which variable has won over the file, and
    which was not understood."""
    sampling = Sampling(
        ratio=traces.sample,
        errors=traces.errors,
        slow_seconds=traces.slow_seconds,
        links_max=traces.max_links,
    )
    sampling, of_sampler = _sampler(sampling, environ)
    sampling, of_links = _links(sampling, environ)
    return sampling, tuple(note for note in (of_sampler, of_links) if note)


def _sampler(sampling: Sampling, environ: Mapping[str, str]) -> tuple[Sampling, str]:
    asked, argument = environ.get(SAMPLER, "").strip(), environ.get(ARGUMENT, "").strip()
    if not asked:
        told = f"{ARGUMENT} is ignored: it is {SAMPLER}'s, which is not set" if argument else ""
        return sampling, told
    name, known = asked.removeprefix(_FOLLOWING), sampling.ratio
    follows = replace(sampling, follows=asked.startswith(_FOLLOWING))
    if name in _FIXED:
        ratio = _FIXED[name]
        return replace(follows, ratio=ratio), f"sample {ratio:g}, as {SAMPLER} says"
    if name != _RATIO:
        return sampling, f"{SAMPLER}={asked!r} is not known: sample {known:g}"
    if not argument:
        return replace(follows, ratio=1.0), f"sample 1, as {SAMPLER} says without {ARGUMENT}"
    found = _ratio(argument)
    if found is None:
        return follows, f"{ARGUMENT}={argument!r} is no number from 0 to 1: sample {known:g}"
    return replace(follows, ratio=found), f"sample {found:g}, as {ARGUMENT} says"


def _ratio(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0 <= found <= 1 else None


def _links(sampling: Sampling, environ: Mapping[str, str]) -> tuple[Sampling, str]:
    asked = environ.get(LINKS, "").strip()
    if not asked:
        return sampling, ""
    if not (asked.isascii() and asked.isdecimal()):
        return sampling, f"{LINKS}={asked!r} is no whole number: up to {sampling.links_max} links"
    most = min(int(asked[:9]), LINKS_MAX)
    return replace(sampling, links_max=most), f"up to {most:,} links, as {LINKS} says"
