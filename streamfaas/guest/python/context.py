"""The context object that a handler gets beside its event."""

from __future__ import annotations

import sys
import time
from typing import Any


class CognitoIdentity:
    """Always there and always empty: nobody invokes by Cognito here."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self) -> None:
        self.cognito_identity_id: str | None = None
        self.cognito_identity_pool_id: str | None = None


class Client:
    """The mobile client that a caller may describe."""

    __slots__ = (
        "app_package_name",
        "app_title",
        "app_version_code",
        "app_version_name",
        "installation_id",
    )

    def __init__(self, described: dict[str, Any]) -> None:
        for field in self.__slots__:
            setattr(self, field, described.get(field))


class ClientContext:
    """What a caller sends along with an event."""

    __slots__ = ("client", "custom", "env")

    def __init__(self, sent: dict[str, Any]) -> None:
        client = sent.get("client")
        self.client = None if client is None else Client(client)
        self.custom = sent.get("custom")
        self.env = sent.get("env")


class LambdaContext:
    """One invocation, as its handler sees it. What holds for the whole function lies on a class
    of the worker's own, made by `context_class`."""

    function_name: str
    function_version: str
    invoked_function_arn: str
    memory_limit_in_mb: str
    log_group_name: str
    log_stream_name: str
    tenant_id: str | None = None
    client_context: ClientContext | None = None

    def __init__(self, request_id: str, deadline_ms: int) -> None:
        self.aws_request_id = request_id
        self.identity = CognitoIdentity()
        self._deadline_ms = deadline_ms

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is ended; never below zero."""
        now_ms = int(_now() * 1000)
        return max(0, self._deadline_ms - now_ms)

    def log(self, message: object) -> None:
        """Writes to the function's log, as it is."""
        sys.stdout.write(str(message))

    def __repr__(self) -> str:
        return f"LambdaContext(aws_request_id={self.aws_request_id!r})"


_now = time.time  # noqa: TID251 - the deadline is an instant of the clock that callers know


def context_class(packet: dict[str, Any], log_stream: str) -> type[LambdaContext]:
    """The context of one worker's invocations."""
    constants = {
        "function_name": packet["function"],
        "function_version": packet["env"].get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        "invoked_function_arn": packet["arn"],
        "memory_limit_in_mb": str(packet["memory_mb"]),
        "log_group_name": packet["log_group"],
        "log_stream_name": log_stream,
        "__module__": "__main__",
    }
    return type("LambdaContext", (LambdaContext,), constants)
