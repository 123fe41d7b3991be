"""The models of connections: where a cluster or a service is, and who we say we are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, SecretStr

from streamfaas.config import forms
from streamfaas.config.model import Model

LATER_MECHANISMS = ("GSSAPI", "AWS_MSK_IAM")


class Tls(Model):
    """Encryption, and the client's certificate. An empty block trusts the system's authorities."""

    ca: Annotated[Path | None, forms.location("a PEM file")] = Field(
        default=None, description="Certificates of the authorities to trust, a PEM file."
    )
    certificate: Annotated[Path | None, forms.location("a PEM file")] = Field(
        default=None, description="The client's certificate, a PEM file."
    )
    key: Annotated[Path | None, forms.location("a PEM file")] = Field(
        default=None, description="The key of the client's certificate, a PEM file."
    )
    password: Annotated[SecretStr | None, forms.secret()] = Field(
        default=None, description="The password of the key.", examples=["${credential:kafka-key}"]
    )


class TokenEndpoint(Model):
    """Where tokens are fetched by OAuth 2.0 client credentials."""

    url: Annotated[
        str, forms.text("an http or https address", forms.URL_PATTERN, code="SF1057")
    ] = Field(description="Address of the token endpoint.")
    client_id: Annotated[str, forms.text("a client id")] = Field(description="The client's id.")
    client_secret: Annotated[SecretStr, forms.secret()] = Field(
        description="The client's secret.", examples=["${credential:kafka-oauth}"]
    )
    scope: Annotated[str | None, forms.text("a scope")] = Field(
        default=None, description="The scope to ask for."
    )


class Sasl(Model):
    """How the client says who it is."""

    mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"],
        forms.choice(
            "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", later=LATER_MECHANISMS
        ),
    ] = Field(description="The SASL mechanism.")
    username: Annotated[str | None, forms.text("a user name")] = Field(
        default=None, description="For PLAIN and SCRAM."
    )
    password: Annotated[SecretStr | None, forms.secret()] = Field(
        default=None, description="For PLAIN and SCRAM.", examples=["${credential:kafka-password}"]
    )
    token_file: Annotated[Path | None, forms.location("a file")] = Field(
        default=None,
        description="For OAUTHBEARER: a file with the token, read anew for each connection.",
    )
    token_endpoint: TokenEndpoint | None = Field(
        default=None, description="For OAUTHBEARER: where to fetch the token."
    )


class KafkaConnection(Model):
    """A Kafka cluster."""

    type: Literal["kafka"]
    brokers: Annotated[
        tuple[Annotated[str, forms.broker()], ...], Field(min_length=1, max_length=100)
    ] = Field(description="Addresses to begin with.", examples=[["k1:9092", "k2:9092"]])
    tls: Tls | None = Field(default=None, description="Encryption; none without it.")
    sasl: Sasl | None = Field(default=None, description="Authentication; none without it.")


class AwsConnection(Model):
    """AWS, or what speaks its language. Credentials that are not given are found as every AWS SDK
    finds them: environment, files of `~/.aws`, the machine's own role."""

    type: Literal["aws"]
    region: Annotated[str, forms.text("a region", "[a-z0-9-]{1,64}")] = Field(
        description="The region.", examples=["eu-central-1"]
    )
    endpoint_url: Annotated[
        str | None, forms.text("an http or https address", forms.URL_PATTERN, code="SF1057")
    ] = Field(
        default=None,
        description="Where the services are. Without it: AWS.",
        examples=["http://127.0.0.1:4566"],
    )
    access_key_id: Annotated[str | None, forms.text("an access key's id")] = Field(
        default=None, description="Who we say we are. Without it: as every AWS SDK finds it."
    )
    secret_access_key: Annotated[SecretStr | None, forms.secret()] = Field(
        default=None,
        description="The key that belongs to the id.",
        examples=["${credential:aws-secret}"],
    )
    session_token: Annotated[SecretStr | None, forms.secret()] = Field(
        default=None, description="The token of a key for a while."
    )
    profile: Annotated[str | None, forms.text("a profile's name")] = Field(
        default=None, description="A profile of `~/.aws`."
    )
    ca: Annotated[Path | None, forms.location("a PEM file")] = Field(
        default=None,
        description="Certificates of the authorities to trust, a PEM file. Without it: the "
        "public ones.",
    )


AnyConnection: TypeAlias = KafkaConnection | AwsConnection
Connection: TypeAlias = Annotated[AnyConnection, Field(discriminator="type")]
