"""The model of what is sent to a collector of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from streamfaas.config import forms, web
from streamfaas.config.model import Model, Short, none

Signals: TypeAlias = Literal["traces", "metrics", "logs"]


class Otlp(Model):
    """Export by OTLP. The variables of OpenTelemetry (OTEL_EXPORTER_OTLP_…) go before it."""

    endpoint: Annotated[
        str | None,
        forms.text(
            "an http or https address",
            forms.URL_PATTERN,
            code="SF1057",
            hint="begin it with http:// or https://",
        ),
    ] = Field(
        default=None,
        description="Address of the collector, without /v1/traces and the like. Without it: what "
        "OTEL_EXPORTER_OTLP_ENDPOINT says, or nothing is sent.",
        examples=["http://127.0.0.1:4318"],
    )
    protocol: Annotated[Literal["http/protobuf", "grpc"], forms.choice("http/protobuf", "grpc")] = (
        Field(
            default="http/protobuf",
            description="How it is sent. grpc wants the extra: pip install 'streamfaas[grpc]'.",
        )
    )
    headers: Annotated[
        Mapping[Annotated[str, web.header()], Annotated[str, web.header_value()]],
        AfterValidator(MappingProxyType),
    ] = Field(
        default_factory=none,
        repr=False,
        description="Headers to send, all of them secrets.",
        examples=[{"Authorization": "${credential:collector}"}],
    )
    compression: Annotated[Literal["none", "gzip"], forms.choice("none", "gzip")] = Field(
        default="none", description="How what is sent is compressed."
    )
    timeout: Annotated[float, forms.duration("100ms", "5m")] = Field(
        default=10.0, description="How long one export may take, with all that is tried again."
    )
    interval: Annotated[float, forms.duration("1s", "1h")] = Field(
        default=60.0, description="How often metrics are sent."
    )
    signals: Annotated[
        tuple[Annotated[Signals, forms.choice("traces", "metrics", "logs")], ...],
        Field(min_length=1, max_length=3),
    ] = Field(default=("traces", "metrics", "logs"), description="What is sent.")
    ca: Annotated[Path | None, forms.location("a PEM file")] = Field(
        default=None,
        description="Certificates of the authorities to trust, a PEM file. Without it: the "
        "system's.",
    )
    certificate: Annotated[Path | None, forms.location("a PEM file")] = Field(
        default=None, description="Our certificate, a PEM file."
    )
    key: Annotated[Path | None, forms.location("a PEM file")] = Field(
        default=None, description="The key of our certificate, a PEM file."
    )


OtlpOrUrl: TypeAlias = Annotated[
    Otlp | None, Short("endpoint", "the address of a collector, or a mapping")
]
