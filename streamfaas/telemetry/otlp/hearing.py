"""What a collector answers over HTTP: the SDK keeps only whether it was well."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, cast

import requests
from google.protobuf.message import DecodeError
from requests.adapters import HTTPAdapter

BODY_BYTES_MAX = 64 << 10
SAID_MAX = 200

ANSWERS: dict[str, tuple[str, str, str]] = {
    "traces": ("trace", "Trace", "rejected_spans"),
    "metrics": ("metrics", "Metrics", "rejected_data_points"),
    "logs": ("logs", "Logs", "rejected_log_records"),
}
"""By signal: the words of its messages, and the field that counts what was rejected."""


class Ear:
    """What was answered last: why nothing was taken, how much of it was rejected and why, and how
    long we should keep away."""

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self.forget()

    def forget(self) -> None:
        self.reason = ""
        self.rejected = 0
        self.partial = ""
        self.pause_seconds = 0.0

    def answered(self, response: requests.Response) -> None:
        self.forget()
        self.pause_seconds = _pause(response.headers.get("retry-after", ""))
        if not response.ok or response.is_redirect:
            self.reason = f"{response.status_code} {response.reason}".strip()
        elif 0 < len(response.content) <= BODY_BYTES_MAX:
            self._look_inside(response.content)

    def broke_off(self, error: requests.RequestException) -> None:
        self.forget()
        self.reason = _why(error)

    def _look_inside(self, body: bytes) -> None:
        """Whether all of it was taken."""
        word, name, field = ANSWERS[self._signal]
        messages: Any = importlib.import_module(
            f"opentelemetry.proto.collector.{word}.v1.{word}_service_pb2"
        )
        try:
            answer = getattr(messages, f"Export{name}ServiceResponse").FromString(body)
        except DecodeError:  # not of OTLP, but it said that it was well
            return
        self.rejected = getattr(answer.partial_success, field)
        self.partial = f"rejected: {answer.partial_success.error_message[:SAID_MAX]}"


class _Wire:
    """An adapter that tells an ear of every answer."""

    def __init__(self, ear: Ear, ca: str) -> None:
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1)
        self._ear = ear
        self._ca = ca

    def send(self, request: Any, *arguments: Any, **options: Any) -> requests.Response:
        if self._ca:  # or requests would take REQUESTS_CA_BUNDLE, where there is that
            options["verify"] = self._ca
        try:
            response = self._adapter.send(request, *arguments, **options)
        except requests.RequestException as error:
            self._ear.broke_off(error)
            raise
        self._ear.answered(response)
        return response

    def close(self) -> None:
        self._adapter.close()


def open_session(ear: Ear, ca: str) -> requests.Session:
    """What an exporter sends its requests by, to whom `ca` trusts."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, cast("Any", _Wire(ear, ca)))
    return session


def _pause(text: str) -> float:
    """Only seconds; a date needs a clock that both sides agree on."""
    return float(text) if text.isascii() and text.isdecimal() else 0.0


def _why(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    for each in _causes(error):
        if (
            isinstance(each, OSError)
            and each.strerror
            and not isinstance(each, requests.RequestException)
        ):
            return each.strerror
    return "the connection broke off"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those inside of it: urllib3 puts them one in another."""
    pending, seen = [error], 0
    while pending and (seen := seen + 1) < 20:
        each = pending.pop(0)
        yield each
        inner = [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
        pending += [it for it in inner if isinstance(it, BaseException)]
