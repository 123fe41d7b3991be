"""A broker that lets in only who it knows, by every way that there is, and what it does not allow."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from kafka_broker import Kafka, running
from kafka_lanes import Lanes, consuming, options
from streamfaas.flow.errors import Refused, Unreachable
from streamfaas.sources.kafka import SaslOptions, TlsOptions
from streamfaas.sources.kafka.survey import surveying
from streamfaas.telemetry.signals import SourceChanged
from streamfaas.wire.kafka import translated

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl not found"),
]

SECRET = "hunter2-canary"
KEY_SECRET = "locked-canary"

_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_BEARER = (
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
    'unsecuredLoginStringClaim_sub="broker";'
)
_UNSIGNED = (
    "org.apache.kafka.common.security.oauthbearer.internals.unsecured."
    "OAuthBearerUnsecuredValidatorCallbackHandler"
)


@dataclass(frozen=True, slots=True)
class Guarded:
    """A broker with listeners for each way in, and the papers for them.

    `alice` (by password, token or certificate) may do everything, `bob` nothing.
    """

    kafka: Kafka
    papers: Path

    def tls(self, authority: str = "authority", who: str = "") -> TlsOptions:
        if not who:
            return TlsOptions(ca=self.papers / f"{authority}.crt")
        return TlsOptions(
            ca=self.papers / f"{authority}.crt",
            certificate=self.papers / f"{who}.crt",
            key=self.papers / f"{who}.locked",
            password=KEY_SECRET,
        )

    def token(self, who: str = "alice", seconds: float = 3600) -> SaslOptions:
        now = int(time.time())
        path = self.papers / f"token-{uuid.uuid4().hex[:8]}"
        path.write_text(unsigned({"sub": who, "iat": now, "exp": now + seconds}))
        return SaslOptions("OAUTHBEARER", token_file=path)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    papers = tmp_path_factory.mktemp("papers")
    authority(papers, "authority")
    authority(papers, "stranger")
    certify(papers, "authority", "server", "IP:127.0.0.1")
    certify(papers, "authority", "elsewhere", "DNS:elsewhere.example")
    certify(papers, "authority", "alice", "DNS:alice")
    certify(papers, "authority", "bob", "DNS:bob")
    certify(papers, "stranger", "mallory", "DNS:alice")
    listeners = {
        "LOGIN": "SASL_PLAINTEXT",
        "SAFE": "SASL_SSL",
        "OPEN": "SSL",
        "MUTUAL": "SSL",
        "ELSEWHERE": "SSL",
    }
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(papers / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(papers / "authority.crt"),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.elsewhere.ssl.keystore.type": "PEM",
        "listener.name.elsewhere.ssl.keystore.location": str(papers / "elsewhere.pem"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # who comes by the plain and the open listener has no name at all
        "super.users": "User:ANONYMOUS;User:alice;User:CN=alice",
    }
    for name in ("login", "safe"):
        listener = f"listener.name.{name}"
        mechanisms = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"
        users = f'user_alice="{SECRET}" user_bob="{SECRET}"'
        properties |= {
            f"{listener}.sasl.enabled.mechanisms": mechanisms,
            f"{listener}.plain.sasl.jaas.config": f"{_PLAIN} {users};",
            f"{listener}.scram-sha-256.sasl.jaas.config": _SCRAM,
            f"{listener}.scram-sha-512.sasl.jaas.config": _SCRAM,
            f"{listener}.oauthbearer.sasl.jaas.config": _BEARER,
            f"{listener}.oauthbearer.sasl.server.callback.handler.class": _UNSIGNED,
        }
    with running(
        listeners=listeners, properties=properties, scram={"alice": SECRET, "bob": SECRET}
    ) as kafka:
        yield Guarded(kafka, papers)


def authority(folder: Path, name: str) -> None:
    openssl(folder, f"req -x509 {_NEW_KEY} -keyout {name}.key -out {name}.crt -days 2", name)


def certify(folder: Path, by: str, name: str, known_as: str) -> None:
    """A key and a certificate: as one file for a broker, apart and locked for a client."""
    (folder / f"{name}.names").write_text(f"subjectAltName={known_as}")
    openssl(folder, f"req {_NEW_KEY} -keyout {name}.key -out {name}.csr", name)
    openssl(
        folder,
        f"x509 -req -in {name}.csr -CA {by}.crt -CAkey {by}.key -CAcreateserial "
        f"-out {name}.crt -days 2 -extfile {name}.names",
    )
    openssl(folder, f"pkcs8 -topk8 -in {name}.key -out {name}.locked -passout pass:{KEY_SECRET}")
    whole = "".join((folder / f"{name}.{part}").read_text() for part in ("key", "crt"))
    (folder / f"{name}.pem").write_text(whole)


def openssl(folder: Path, arguments: str, subject: str = "") -> None:
    about = ["-subj", f"/CN={subject}"] if subject else []
    subprocess.run(
        ["openssl", *arguments.split(), *about], cwd=folder, check=True, capture_output=True
    )


_NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


def unsigned(claims: dict[str, Any]) -> str:
    """A token as Kafka's developer mode wants it."""

    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}."


Way = Callable[[Guarded], dict[str, Any]]


def password(mechanism: str, who: str = "alice", secret: str = SECRET) -> SaslOptions:
    return SaslOptions(mechanism, who, secret)


WAYS: dict[str, tuple[str, Way]] = {
    "PLAIN": ("LOGIN", lambda _: {"sasl": password("PLAIN")}),
    "SCRAM-SHA-256": ("LOGIN", lambda _: {"sasl": password("SCRAM-SHA-256")}),
    "SCRAM-SHA-512": ("LOGIN", lambda _: {"sasl": password("SCRAM-SHA-512")}),
    "OAUTHBEARER": ("LOGIN", lambda g: {"sasl": g.token()}),
    "TLS": ("OPEN", lambda g: {"tls": g.tls()}),
    "TLS with a certificate": ("MUTUAL", lambda g: {"tls": g.tls(who="alice")}),
    "PLAIN in TLS": ("SAFE", lambda g: {"tls": g.tls(), "sasl": password("PLAIN")}),
    "SCRAM-SHA-256 in TLS": ("SAFE", lambda g: {"tls": g.tls(), "sasl": password("SCRAM-SHA-256")}),
    "SCRAM-SHA-512 in TLS": ("SAFE", lambda g: {"tls": g.tls(), "sasl": password("SCRAM-SHA-512")}),
    "OAUTHBEARER in TLS": ("SAFE", lambda g: {"tls": g.tls(), "sasl": g.token()}),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_reads_everything_and_commits_it(guarded: Guarded, way: str) -> None:
    listener, papers = WAYS[way]

    async def scenario() -> None:
        kafka, group = guarded.kafka, uuid.uuid4().hex
        topic = await kafka.create_topic(partitions=2)
        await kafka.produce(topic, [b"%d" % number for number in range(2_000)])
        address = kafka.broker.address(listener)
        async with consuming(
            Lanes(options(address, topic, group=group, **papers(guarded)))
        ) as lanes:
            await kafka.wait_for_commit(group, topic, {0: 1_000, 1: 1_000})
        assert lanes.ran == {f"{topic}-{number}": list(range(1_000)) for number in range(2)}
        unseen(lanes)

    uvloop.run(scenario())


REFUSED: dict[str, tuple[str, Way, str]] = {
    "a wrong password": (
        "LOGIN",
        lambda _: {"sasl": password("PLAIN", secret="wrong-canary")},
        "authentication failed",
    ),
    "a wrong password in SCRAM": (
        "SAFE",
        lambda g: {"tls": g.tls(), "sasl": password("SCRAM-SHA-512", secret="wrong-canary")},
        "authentication failed",
    ),
    "an unknown user": (
        "LOGIN",
        lambda _: {"sasl": password("SCRAM-SHA-256", who="nobody")},
        "authentication failed",
    ),
    "a token that has ended": (
        "LOGIN",
        lambda g: {"sasl": g.token(seconds=-60)},
        "authentication failed",
    ),
    "an authority that is not ours": (
        "OPEN",
        lambda g: {"tls": g.tls(authority="stranger")},
        "not trusted",
    ),
    "a server with another name": ("ELSEWHERE", lambda g: {"tls": g.tls()}, "not trusted"),
    "no certificate of ours": (
        "MUTUAL",
        lambda g: {"tls": g.tls()},
        "does not accept our certificate",
    ),
    "a certificate of a stranger": (
        "MUTUAL",
        lambda g: {"tls": g.tls(who="mallory")},
        "does not accept our certificate",
    ),
    "a user who may do nothing": (
        "LOGIN",
        lambda _: {"sasl": password("SCRAM-SHA-512", who="bob")},
        "no permission for",
    ),
    "a certificate that may do nothing": (
        "MUTUAL",
        lambda g: {"tls": g.tls(who="bob")},
        "no permission for",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_who_is_not_let_in_is_told_why_in_one_line_without_a_secret(
    guarded: Guarded, case: str
) -> None:
    listener, papers, told = REFUSED[case]

    async def scenario() -> None:
        kafka = guarded.kafka
        topic = await kafka.create_topic()
        await kafka.produce(topic, [b"not for everybody"])
        chosen = options(kafka.broker.address(listener), topic, **papers(guarded))
        async with consuming(Lanes(chosen)) as lanes:
            await lanes.until(lambda: lanes.view()["state"] == "degraded")
            reason = lanes.view()["reason"].casefold()
            assert told in reason
            assert "\n" not in reason
        assert not lanes.ran
        unseen(lanes)

    uvloop.run(scenario())


def test_a_survey_tells_whom_a_topic_and_a_group_are_not_open_to(guarded: Guarded) -> None:
    async def scenario() -> None:
        kafka, clock = guarded.kafka, asyncio.get_running_loop().time
        address, tls = kafka.broker.address("SAFE"), guarded.tls()
        topic, group = await kafka.create_topic(), uuid.uuid4().hex
        for who, trouble, may_read in (("alice", "", True), ("bob", "no permission", False)):
            sasl = password("SCRAM-SHA-512", who=who)
            async with surveying([address], tls, sasl, clock=clock, seconds=5.0) as survey:
                assert (await survey.doors([address])).given == {address: ""}
                seen, by = await survey.topic(topic), await survey.group(group)
                assert trouble in seen.trouble
                assert bool(trouble) == bool(seen.trouble) == bool(by.trouble)
                assert by.may_read is may_read
        wrong = password("SCRAM-SHA-512", secret="wrong-canary")
        with pytest.raises(Refused, match="authentication failed") as told:
            async with surveying([address], tls, wrong, clock=clock, seconds=5.0):
                pass
        assert "canary" not in repr(told.value)

    uvloop.run(scenario())


def test_a_connection_cut_in_a_handshake_is_worth_another_try() -> None:
    cut = translated(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "k:1")
    assert type(cut) is Unreachable
    assert "do tls and sasl fit this listener?" in str(cut)


def test_a_server_with_another_name_is_believed_where_nobody_is_to_be_checked(
    guarded: Guarded,
) -> None:
    async def scenario() -> None:
        address = guarded.kafka.broker.address("ELSEWHERE")
        topic = await guarded.kafka.create_topic()
        await guarded.kafka.produce(topic, [b"x"])
        chosen = options(address, topic, group=uuid.uuid4().hex, tls=TlsOptions(verify=False))
        async with consuming(Lanes(chosen)) as lanes:
            await lanes.until(lambda: bool(lanes.ran))

    uvloop.run(scenario())


def test_a_broker_that_was_away_is_logged_into_again_and_nothing_is_lost(guarded: Guarded) -> None:
    async def scenario() -> None:
        kafka, group = guarded.kafka, uuid.uuid4().hex
        topic = await kafka.create_topic()
        await kafka.produce(topic, [b"%d" % number for number in range(100)])
        address = kafka.broker.address("SAFE")
        way = {"tls": guarded.tls(), "sasl": password("SCRAM-SHA-256")}
        async with consuming(Lanes(options(address, topic, group=group, **way))) as lanes:
            await lanes.until(lambda: len(lanes.ran[f"{topic}-0"]) == 100)
            kafka.broker.kill()
            await kafka.broker.start()
            await kafka.produce(topic, [b"%d" % number for number in range(100, 200)])
            await kafka.wait_for_commit(group, topic, {0: 200})
        assert list(dict.fromkeys(lanes.ran[f"{topic}-0"])) == list(range(200))
        unseen(lanes)

    uvloop.run(scenario())


def unseen(lanes: Lanes) -> None:
    """No secret in anything that was told to anybody."""
    told = [signal.reason for signal in lanes.told(SourceChanged)]
    text = repr((told, lanes.view(), lanes.options, [source.view() for source in lanes.sources]))
    assert "canary" not in text
