"""How a Kafka cluster is to be reached: encryption, and who we say we are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Encryption. Without `ca` the system's authorities are trusted; `verify` false trusts anybody
    and is for tests."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    password: str | None = field(default=None, repr=False)
    verify: bool = True


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Where tokens are fetched by OAuth 2.0 client credentials."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class SaslOptions:
    """Who we say we are: `mechanism` is PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, the
    last with a file that holds a token (read for each connection) or an endpoint that gives one."""

    mechanism: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    token_endpoint: TokenEndpoint | None = None
