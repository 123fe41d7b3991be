"""Who tells: the service, its host and its process."""

from __future__ import annotations

import os
import platform
import socket
import sys
import uuid

from opentelemetry.sdk.resources import Attributes, OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from streamfaas import __version__
from streamfaas.telemetry import names

_INSTANCE = str(uuid.uuid4())


def resource(isolation: str) -> Resource:
    """With what OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME add, or say better. `isolation` is
    the level that all functions have at least; nothing while that is not known."""
    ours: Attributes = {
        names.SERVICE_NAME: "streamfaas",
        names.SERVICE_VERSION: __version__,
        names.SERVICE_INSTANCE: _INSTANCE,
        names.HOST_NAME: socket.gethostname(),
        names.OS_TYPE: sys.platform,
        names.PROCESS_ID: os.getpid(),
        names.RUNTIME_NAME: sys.implementation.name,
        names.RUNTIME_VERSION: platform.python_version(),
        **({names.ISOLATION: isolation} if isolation else {}),
    }
    named = Resource(ours, names.SCHEMA_URL).merge(OTELResourceDetector().detect())
    return _Known(_OF_THE_SDK.merge(named))


def scope() -> InstrumentationScope:
    """Which part of it tells: there is one."""
    return InstrumentationScope(names.SCOPE, __version__, names.SCHEMA_URL)


class _Known(Resource):
    """One that is hashed once: the encoders ask for each span and each line, and it is a third of
    all their work."""

    def __init__(self, of: Resource) -> None:
        super().__init__(of.attributes, of.schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


_OF_THE_SDK = Resource(
    {
        name: value
        for name, value in Resource.create().attributes.items()
        if name.startswith("telemetry.sdk.")
    }
)
