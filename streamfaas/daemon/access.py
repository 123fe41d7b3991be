"""How a configuration says that clusters and services are reached, in the words of those who reach
them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import SecretStr

from streamfaas.config.connections import (
    AnyConnection,
    AwsConnection,
    KafkaConnection,
    Sasl,
    Tls,
)
from streamfaas.config.connections import TokenEndpoint as Asked
from streamfaas.wire.kafka_options import SaslOptions, TlsOptions, TokenEndpoint

if TYPE_CHECKING:
    from streamfaas.wire.aws import AwsAccess  # whose client takes long to import


def tls_options(tls: Tls | None) -> TlsOptions | None:
    """Encryption, if there is any."""
    if tls is None:
        return None
    return TlsOptions(
        ca=tls.ca, certificate=tls.certificate, key=tls.key, password=revealed(tls.password)
    )


def sasl_options(sasl: Sasl | None) -> SaslOptions | None:
    """Who we say we are, if anybody asks."""
    if sasl is None:
        return None
    return SaslOptions(
        mechanism=sasl.mechanism,
        username=sasl.username,
        password=revealed(sasl.password),
        token_file=sasl.token_file,
        token_endpoint=None if sasl.token_endpoint is None else _endpoint(sasl.token_endpoint),
    )


def _endpoint(endpoint: Asked) -> TokenEndpoint:
    return TokenEndpoint(
        url=endpoint.url,
        client_id=endpoint.client_id,
        client_secret=endpoint.client_secret.get_secret_value(),
        scope=endpoint.scope,
    )


def aws_access(connection: AwsConnection) -> AwsAccess:
    """Where services are, and who we say we are."""
    from streamfaas.wire.aws import AwsAccess

    return AwsAccess(
        region=connection.region,
        endpoint_url=connection.endpoint_url,
        access_key_id=connection.access_key_id,
        secret_access_key=revealed(connection.secret_access_key),
        session_token=revealed(connection.session_token),
        profile=connection.profile,
        ca=connection.ca,
    )


def aws_variables(connection: AwsConnection) -> dict[str, str]:
    """The same as variables that every AWS SDK looks for."""
    asked = {
        "AWS_ENDPOINT_URL": connection.endpoint_url,
        "AWS_REGION": connection.region,
        "AWS_ACCESS_KEY_ID": connection.access_key_id,
        "AWS_SECRET_ACCESS_KEY": revealed(connection.secret_access_key),
        "AWS_SESSION_TOKEN": revealed(connection.session_token),
        **({} if connection.endpoint_url is None else _ELSEWHERE),
    }
    return {name: value for name, value in asked.items() if value is not None}


_ELSEWHERE = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}
"""The newest checksums, which SDKs add by themselves, are more than other stores understand."""


def revealed(secret: SecretStr | None) -> str | None:
    """The text of a secret, for whoever must say it."""
    return None if secret is None else secret.get_secret_value()


def kafka_connection(connections: Mapping[str, AnyConnection], name: str) -> KafkaConnection:
    """The one of this name: it is one to Kafka, as has been checked."""
    found = connections[name]
    assert isinstance(found, KafkaConnection)
    return found


def access_of(connections: Mapping[str, AnyConnection], name: str) -> AwsAccess:
    """What the one of this name leads to: to AWS, as has been checked."""
    found = connections[name]
    assert isinstance(found, AwsConnection)
    return aws_access(found)


def kafka_start(start: str | datetime) -> str | int:
    """A word, or a time in milliseconds."""
    return start if isinstance(start, str) else int(start.timestamp() * 1000)
