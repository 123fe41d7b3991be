from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
import struct
import subprocess
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import pytest
import uvloop
from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, CloseReason

from kafka_broker import running
from kafka_reader import Reader, options, reading
from replay_broker import Api, Drop, ReplayBroker
from streamfaas.flow.errors import Gone, Refused, Unreachable
from streamfaas.wire.kafka import (
    Client,
    FetchedTokens,
    FileTokens,
    TokenError,
    connection,
    reach,
    translated,
)
from streamfaas.wire.kafka_options import SaslOptions, TlsOptions, TokenEndpoint
from streamfaas.wire.kafka_producer import Producer

# -- errors in our words


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (ConnectionRefusedError(111, "no"), Unreachable, "cannot reach k:1 (connection refused)"),
        (TimeoutError(), Unreachable, "cannot reach k:1 (no answer)"),
        (errors.RequestTimedOutError(), Unreachable, "k:1 did not answer in time"),
        (errors.UnknownTopicOrPartitionError(), Gone, "k:1: This request is for a topic"),
        (
            errors.GroupAuthorizationFailedError("g"),
            Refused,
            "k:1: no permission for the consumer group",
        ),
        (errors.KafkaError("TopicAuthorizationFailedError()"), Refused, "k:1: no permission for"),
        (
            ssl.SSLCertVerificationError(1, "self signed"),
            Refused,
            "k:1: its certificate is not trusted",
        ),
        (ValueError("Server sent wrong signature!"), Refused, "k:1: authentication failed"),
        (TokenError(Refused("no token")), Refused, "no token"),
    ],
)
def test_an_error_is_one_plain_line(error, kind, line):
    told = translated(error, "k:1")
    assert type(told) is kind
    assert str(told).startswith(line)
    assert "\n" not in str(told)
    assert told.__cause__ is not None or isinstance(error, TokenError)


def test_a_cause_is_found_under_the_wrappings_of_the_client():
    inner = errors.KafkaConnectionError("Connection at k:1 closed")
    inner.__cause__ = ConnectionResetError(104, "reset")
    outer = errors.KafkaError("Unexpected error during coordination")
    outer.__cause__ = inner
    told = translated(outer, "k:1")
    assert str(told) == (
        "cannot reach k:1 (it closed the connection: do tls and sasl fit this listener?)"
    )
    told = translated(outer, "k:1", known=True)
    assert str(told) == "cannot reach k:1 (it closed the connection)"


def test_secrets_do_not_show():
    sasl = SaslOptions("PLAIN", "u", "geheim", token_endpoint=TokenEndpoint("u", "i", "geheim"))
    tls = TlsOptions(password="geheim")
    assert "geheim" not in repr(options("k:1", "g", "t", sasl=sasl, tls=tls))


# -- tokens


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@contextmanager
def endpoint(answers):
    """An OAuth endpoint on loopback that gives these answers in turn, the last for ever."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["content-length"])
            asked.append((self.headers["authorization"], self.rfile.read(length).decode()))
            status, body = answers[min(len(asked), len(answers)) - 1]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def token(name, seconds=100):
    return 200, json.dumps({"access_token": name, "expires_in": seconds}).encode()


def test_a_token_is_fetched_once_and_anew_before_it_ends():
    clock = Clock()

    async def scenario(url):
        tokens = FetchedTokens(TokenEndpoint(url, "me&", "se cret", "kafka"), clock)
        assert [await tokens.token(), await tokens.token()] == ["one", "one"]
        clock.now += 96
        assert await tokens.token() == "two"

    with endpoint([token("one"), token("two")]) as (url, asked):
        asyncio.run(scenario(url))
    assert len(asked) == 2
    # id and secret are form-encoded before they are joined, as RFC 6749 has it
    assert asked[0][0] == "Basic bWUlMjY6c2UrY3JldA=="
    assert asked[0][1] == "grant_type=client_credentials&scope=kafka"


@pytest.mark.parametrize(
    ("answer", "kind", "line"),
    [
        ((401, b""), Refused, "gives no token: 401 Unauthorized"),
        ((503, b""), Unreachable, "gives no token: 503"),
        ((200, b"<html>"), Unreachable, "no token from"),
        ((200, b"{}"), Refused, "answers without an access_token"),
        ((200, b"[]"), Refused, "answers without an access_token"),
    ],
)
def test_an_endpoint_that_gives_no_token_is_told_plainly(answer, kind, line):
    async def scenario(url):
        with pytest.raises(TokenError) as caught:
            await FetchedTokens(TokenEndpoint(url, "me", "secret"), Clock()).token()
        assert type(caught.value.told) is kind
        assert line in str(caught.value.told)
        assert "secret" not in str(caught.value.told)

    with endpoint([answer]) as (url, _):
        asyncio.run(scenario(url))


def test_an_endpoint_that_is_down_does_not_matter_while_the_token_is_good():
    clock = Clock()

    async def scenario(url):
        tokens = FetchedTokens(TokenEndpoint(url, "me", "secret"), clock)
        assert await tokens.token() == "one"
        clock.now += 90
        with pytest.raises(TokenError):
            await tokens._fetch()
        assert await tokens.token() == "one"
        clock.now += 10  # no longer
        with pytest.raises(TokenError):
            await tokens.token()

    with endpoint([token("one"), (500, b"")]) as (url, _):
        asyncio.run(scenario(url))


def test_a_token_file_is_read_for_each_connection(tmp_path):
    path = tmp_path / "token"
    tokens = FileTokens(path)

    async def scenario():
        with pytest.raises(TokenError, match="cannot read the token"):
            await tokens.token()
        path.write_text("one\n")
        assert await tokens.token() == "one"
        path.write_text("two\n")
        assert await tokens.token() == "two"
        path.write_text(" ")
        with pytest.raises(TokenError, match="is empty"):
            await tokens.token()

    asyncio.run(scenario())


def test_files_that_cannot_be_used_are_refused_by_name(tmp_path):
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for tls in (TlsOptions(ca=tmp_path / "gone.pem"), TlsOptions(ca=broken)):
        with pytest.raises(Refused, match=str(tls.ca)):
            connection(tls, None, time.monotonic)
    with pytest.raises(Refused, match="cannot use the certificate"):
        connection(TlsOptions(certificate=broken), None, time.monotonic)


# -- a way in


def test_a_broker_that_knows_of_none_that_lives_is_worth_another_try():
    """As one is that was frozen, for a moment."""

    async def answer(reader, writer):
        can = struct.pack(">hihhh", 0, 1, 3, 0, 0)  # tell of the cluster
        for body in (can, struct.pack(">ii", 0, 0)):  # of no broker and no topic
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            asked = await reader.readexactly(size)
            writer.write(struct.pack(">i", 4 + len(body)) + asked[4:8] + body)
        await reader.read()
        writer.close()

    async def scenario():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        asked = connection(None, None, time.monotonic)
        with pytest.raises(Unreachable, match="shows nothing of the cluster"):
            await reach([f"{host}:{port}"], asked, 20.0)
        server.close()
        await server.wait_closed()

    uvloop.run(scenario())


# -- the end of a connection


@contextmanager
def no_goodbye(certificate):
    """A server with TLS that says what it can do, and then nothing any more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    over = threading.Event()

    def serve():
        taken, _ = listening.accept()
        with context.wrap_socket(taken, server_side=True) as peer:
            peer.read()
            peer.write(struct.pack(">iihi", 10, 1, 0, 0))  # no error, and no kind of request
            over.wait()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            thread.join()


@pytest.mark.slow
def test_a_connection_that_is_not_said_goodbye_to_is_ended_all_the_same(tmp_path):
    """Though it was given up before, and another may stand in its place."""
    certificate = tmp_path / "server.pem"
    subject = "-subj /CN=server -addext subjectAltName=IP:127.0.0.1"
    made = f"req -x509 -newkey rsa:2048 -nodes -keyout {certificate} -out crt -days 2 {subject}"
    subprocess.run(["openssl", *made.split()], cwd=tmp_path, check=True, capture_output=True)
    with certificate.open("a") as file:
        file.write((tmp_path / "crt").read_text())

    async def scenario(port):
        asked = connection(TlsOptions(certificate), None, time.monotonic)
        client = Client(bootstrap_servers=f"127.0.0.1:{port}", **asked)
        given_up = client._on_connection_closed
        one = AIOKafkaConnection("127.0.0.1", port, on_close=given_up, **asked)
        await one.connect()
        transport = one._writer.transport
        one.close(reason=CloseReason.IDLE_DROP)
        await anyio.sleep(0.1)
        assert one._protocol._transport is transport
        await client.close()
        assert one._protocol._transport is None

    with no_goodbye(certificate) as port:
        uvloop.run(scenario(port))


# -- a broker that wants to know


@pytest.fixture(scope="module")
def guarded():
    """A broker with a listener for passwords and tokens, in the clear."""
    bearer = (
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="broker";'
    )
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    login = "listener.name.login"
    properties = {
        "sasl.enabled.mechanisms": "PLAIN,OAUTHBEARER",
        f"{login}.oauthbearer.sasl.jaas.config": bearer,
        f"{login}.oauthbearer.sasl.server.callback.handler.class": (
            "org.apache.kafka.common.security.oauthbearer.internals.unsecured."
            "OAuthBearerUnsecuredValidatorCallbackHandler"
        ),
        f"{login}.plain.sasl.jaas.config": f'{plain} username="u" password="p" user_u="p";',
        # a connection ends with its token, unless it shows another: the client never does
        f"{login}.connections.max.reauth.ms": "3600000",
    }
    with running(listeners={"LOGIN": "SASL_PLAINTEXT"}, properties=properties) as kafka:
        yield kafka


async def reads(address, kafka, **how):
    topic = await kafka.create_topic()
    await kafka.produce(topic, [b"a", b"b"])
    chosen = options(address, f"g-{uuid.uuid4().hex[:8]}", topic, **how)
    async with reading("f/t", chosen) as reader:
        await reader.records_are(2)
        assert reader.values == [b"a", b"b"]
        return [signal.reason for signal in reader.signals]


async def is_refused(address, **how):
    reader = Reader("f/t", options(address, "g", "t", **how))
    try:
        with pytest.raises((Refused, Unreachable)) as caught:
            await reader.source.open(lambda work, name: None)
    finally:
        await reader.source.close()
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.kafka
@pytest.mark.slow
def test_that_a_password_is_sent_for_all_to_read_is_told_once(guarded):
    async def scenario():
        address = guarded.broker.address("LOGIN")
        told = await reads(address, guarded, sasl=SaslOptions("PLAIN", "u", "p"))
        assert len([reason for reason in told if "in the clear" in reason]) == 1
        wrong = await is_refused(address, sasl=SaslOptions("SCRAM-SHA-256", "u", "p"))
        assert "does not offer this SASL mechanism" in str(wrong)

    uvloop.run(scenario())


def test_a_locked_key_needs_its_password(tmp_path):
    def made(*arguments):
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    made(
        *[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-keyout",
            "key",
            "-out",
            "certificate",
            "-days",
            "2",
        ],
        *["-passout", "pass:open", "-subj", "/CN=client"],
    )
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    connection(TlsOptions(None, certificate, key, "open"), None, time.monotonic)
    for password in ("wrong", None):
        with pytest.raises(Refused, match=f"cannot use the certificate {certificate}"):
            connection(TlsOptions(None, certificate, key, password), None, time.monotonic)


def unsecured(seconds):
    """A token as Kafka's own developer mode wants it: nobody has signed it."""

    def part(content):
        import base64

        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    now = int(time.time())
    claims = {"sub": "u", "iat": now, "exp": now + seconds}
    return f"{part({'alg': 'none'})}.{part(claims)}."


@pytest.mark.kafka
@pytest.mark.slow
def test_a_token_lets_us_in_from_a_file_or_from_an_endpoint(guarded, tmp_path):
    address = guarded.broker.address("LOGIN")
    (tmp_path / "token").write_text(unsecured(3600))

    async def scenario(url):
        file = SaslOptions("OAUTHBEARER", token_file=tmp_path / "token")
        await reads(address, guarded, sasl=file)
        fetched = SaslOptions("OAUTHBEARER", token_endpoint=TokenEndpoint(url, "me", "secret"))
        await reads(address, guarded, sasl=fetched)
        (tmp_path / "token").write_text("nonsense")
        told = await is_refused(address, sasl=file)
        assert "authentication failed" in str(told)
        (tmp_path / "token").unlink()
        assert "cannot read the token" in str(await is_refused(address, sasl=file))

    with endpoint([token(unsecured(3600), 3600)]) as (url, _):
        uvloop.run(scenario(url))


@pytest.mark.kafka
@pytest.mark.slow
def test_the_broker_ends_connections_with_their_token_and_reading_goes_on(
    guarded, tmp_path, monkeypatch
):
    """The client does not authenticate again on a connection that stands: it makes a new one."""
    asked = []
    read_token = FileTokens.token

    async def counted(self):
        asked.append(await read_token(self))
        return asked[-1]

    monkeypatch.setattr(FileTokens, "token", counted)
    path = tmp_path / "token"
    path.write_text(unsecured(3))
    sasl = SaslOptions("OAUTHBEARER", token_file=path)

    async def scenario():
        topic = await guarded.create_topic()
        chosen = options(
            guarded.broker.address("LOGIN"), f"g-{uuid.uuid4().hex[:8]}", topic, sasl=sasl
        )
        async with reading("f/t", chosen) as reader:
            for n in range(10):
                path.write_text(unsecured(3))
                await guarded.produce(topic, [b"%d" % n])
                await reader.records_are(n + 1)
                await anyio.sleep(0.7)
            assert reader.values == [b"%d" % n for n in range(10)]
            assert not [s for s in reader.signals if s.state == "degraded"]
        assert len(set(asked)) >= 3, "the broker ended no connection"

    asyncio.run(scenario())


class AClient:
    """The client itself."""

    def __init__(self, broker):
        self.client = Client(bootstrap_servers=broker, request_timeout_ms=10_000)
        self.begin, self.end = self.client.bootstrap, self.client.close


class AProducer:
    """What sends, with a client of the library's own."""

    def __init__(self, broker):
        producer = Producer([broker], {}, client_id="test", send_seconds=20.0)
        self.begin, self.end = lambda: producer.start("orders"), producer.end


@pytest.mark.parametrize("api", [Api.API_VERSIONS, Api.METADATA])
@pytest.mark.parametrize("kind", [AClient, AProducer])
@pytest.mark.parametrize("end", ["cancelled", "dropped"])
def test_what_begins_and_is_left_half_way_leaves_no_connection(api, kind, end):
    """The library holds that connection in a variable, and forgets it where it is cancelled."""

    async def main():
        async with ReplayBroker() as replay:
            rule = (
                replay.swallow(api) if end == "cancelled" else replay.drop(api, Drop.HALFWAY, None)
            )
            begun = kind(replay.bootstrap)
            left = anyio.CancelScope()

            async def leave():
                while not rule.struck:  # noqa: ASYNC110 - a look, not a wait
                    await anyio.sleep(0.001)
                left.cancel()

            try:
                async with anyio.create_task_group() as tasks:
                    with left:
                        if end == "cancelled":
                            tasks.start_soon(leave)
                        await begun.begin()
            except* errors.KafkaConnectionError:
                assert end == "dropped"
            await begun.end()

    uvloop.run(main())
    gc.collect()  # what was forgotten complains now
