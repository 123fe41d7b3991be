from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import subprocess
from contextlib import suppress

import anyio
import pytest
import uvloop
from aiohttp import web

import delivery_subjects
from delivery_subjects import (
    SECONDS_IN_VAIN,
    each_check,
    each_check_of_faults,
    judge,
    listening,
)
from streamfaas.destinations.http import Http, HttpOptions, _seconds
from streamfaas.flow.errors import Busy, Refused, TooLarge, Unreachable
from streamfaas.flow.letters import Attribute, Letter
from streamfaas.testing.deliveries import letter

FAULTS = ["down", "slow", "hanging up", "failing", "refusing", "too small", "busy"]


@pytest.mark.slow
@each_check
def test_it_keeps_the_contract(check):
    judge(check, delivery_subjects.http())


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@each_check_of_faults
def test_it_keeps_the_contract_when_it_is_broken(check, fault):
    judge(check, delivery_subjects.http(SECONDS_IN_VAIN), fault, of=FAULTS)


# -- what is sent


def posted(*sent, wall=lambda: 1_700_000_000.9, **options):
    """Sends letters; the requests as they came."""

    async def main():
        async with listening() as address:
            destination = Http(HttpOptions(address.url, **options), wall=wall)
            try:
                await destination.send(sent)
            finally:
                await destination.close()
            return address.requests

    return uvloop.run(main())


def test_a_letter_is_posted_as_json_with_its_id_and_its_hops():
    (request,) = posted(letter(3), headers=(("Authorization", "Bearer t"), ("X-Team", "shop")))
    assert request.method == "POST"
    headers = request.headers
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("streamfaas/")
    assert headers["authorization"] == "Bearer t"
    assert headers["x-team"] == "shop"
    assert headers["streamfaas-id"] == letter(3).id
    assert headers["streamfaas-hops"] == "4"
    assert headers["content-length"] == str(len(letter(3).document))
    assert "webhook-id" not in headers


def test_who_asks_for_another_type_is_given_it():
    (request,) = posted(letter(1), headers=(("Content-Type", "application/cloudevents+json"),))
    assert request.headers.getall("content-type") == ["application/cloudevents+json"]


def test_a_secret_signs_each_try_as_standard_webhooks_has_it():
    key = bytes(range(32))
    secret = "whsec_" + base64.b64encode(key).decode()
    (request,) = posted(letter(1), secret=secret)
    assert request.headers["webhook-id"] == letter(1).id
    assert request.headers["webhook-timestamp"] == "1700000000"
    signed = f"{letter(1).id}.1700000000.".encode() + letter(1).document
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{wanted}"


def test_what_goes_beside_a_dead_letter_are_headers_of_plain_characters():
    attributes = (
        Attribute("RequestID", "String", "r-1"),
        Attribute("ErrorCode", "Number", "200"),
        Attribute("ErrorMessage", "String", "100 % é\nsecond line"),
    )
    (request,) = posted(Letter("1", b"{}", None, 1, attributes))
    assert request.headers["RequestID"] == "r-1"
    assert request.headers["ErrorCode"] == "200"
    assert request.headers["ErrorMessage"] == "100 %25 %C3%A9%0Asecond line"


def test_a_connection_is_used_again():
    async def main():
        async with listening() as address:
            destination = Http(HttpOptions(address.url))
            for number in range(5):
                await destination.send([letter(number)])
            await destination.close()
            assert len({request.transport for request in address.requests}) == 1

    delivery_subjects.run(main)


# -- what is answered


def refusal(answer, **options):
    """What a send comes to where the address answers so."""

    async def main():
        async with listening() as address:

            async def given(request):
                return await answer(request) if asyncio.iscoroutinefunction(answer) else answer

            address.answer = given
            destination = Http(HttpOptions(f"{address.url}?token=geheimnis", **options))
            try:
                with pytest.raises((Refused, Unreachable, Busy)) as caught:
                    await destination.send([letter(1, size_bytes=1 << 20)])
            finally:
                await destination.close()
            told = str(caught.value).replace(address.url, "URL")
            return type(caught.value), told

    return uvloop.run(main())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, Refused), (304, Refused), (307, Refused), (400, Refused), (401, Refused),
        (403, Refused), (404, Refused), (413, TooLarge), (429, Busy), (500, Unreachable),
        (502, Unreachable), (503, Busy), (504, Unreachable),
    ],
)  # fmt: skip
def test_only_a_success_is_one(status, kind):
    found, told = refusal(web.Response(status=status, reason="Because"))
    assert found is kind
    assert told == f"URL?… answers {status} Because"


def test_the_first_line_of_an_answer_is_shown_cut_and_without_secrets():
    text = "no \x1b[31mroom for geheimnis, Bearer abcdefg or 1234567\x00" + "y" * 999 + "\nmore"
    answer = web.Response(status=400, text=text)
    _, told = refusal(answer, headers=(("Authorization", "Bearer abcdefg"), ("k", "1234567")))
    assert told.startswith("URL?… answers 400 Bad Request: no  [31mroom for ***, *** *** or *** yy")
    assert len(told) < 250


def test_a_redirect_is_told_and_not_followed():
    elsewhere = "https://user:pass@elsewhere.test/x?key=1"
    found, told = refusal(web.Response(status=308, headers={"location": elsewhere}))
    assert found is Refused
    assert told.endswith("(it names https://elsewhere.test/x?…; redirects are not followed)")


def test_who_refuses_before_all_has_come_is_understood():
    async def early(request):
        answer = web.Response(status=413, text="too large")
        answer.force_close()
        return answer

    found, told = refusal(early)
    assert found is TooLarge
    assert "413" in told


def test_a_server_that_does_not_speak_http_is_told():
    async def main():
        async def babble(reader, writer):
            writer.write(b"220 mail.test ESMTP\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        destination = Http(HttpOptions(f"http://127.0.0.1:{port}/"))
        with pytest.raises(Unreachable, match="does not speak HTTP"):
            await destination.send([letter(1)])
        await destination.close()
        server.close()
        await server.wait_closed()

    delivery_subjects.run(main)


def test_a_name_that_nobody_knows_is_unreachable_and_shows_no_password():
    async def main():
        destination = Http(HttpOptions("http://me:geheim@nobody.invalid/x", timeout_seconds=5.0))
        with pytest.raises(Unreachable) as caught:
            await destination.send([letter(1)])
        await destination.close()
        assert "geheim" not in str(caught.value) + destination.name

    delivery_subjects.run(main)


# -- asked for less


def test_nothing_is_sent_for_as_long_as_the_address_asks():
    async def main():
        async with listening() as address:
            asked = []

            async def answer(request):
                asked.append(1)
                return web.Response(status=503, headers={"retry-after": "1"})

            address.answer = answer
            destination = Http(HttpOptions(address.url))
            with pytest.raises(Busy, match="answers 503"):
                await destination.send([letter(1)])
            with pytest.raises(Busy, match=r"wants nothing for another \d s"):
                await destination.send([letter(1)])
            assert len(asked) == 1
            address.answer = None
            with anyio.fail_after(10):
                while not address.kept:
                    await anyio.sleep(0.1)
                    with suppress(Busy):
                        await destination.send([letter(1)])
            assert len(address.kept) == 1
            await destination.close()

    delivery_subjects.run(main)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0.0), ("", 0.0), ("7", 7.0), (" 7 ", 7.0), ("-1", 0.0), ("soon", 0.0),
        ("9" * 400, 999999999.0), ("٣", 0.0), ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0), ("Tue, 99 Nov 2023 22:13:10 GMT", 0.0),
    ],
)  # fmt: skip
def test_a_time_to_wait_is_read_as_seconds_or_as_a_date(text, seconds):
    assert _seconds(text, 1_700_000_000.0) == seconds


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out",
         "certificate", "-days", "2", "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.mark.slow
def test_a_server_is_believed_only_by_the_authorities_that_are_trusted(certificate):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "certificate", certificate / "key")

    async def ok(request):
        return web.Response()

    async def main():
        app = web.Application()
        app.router.add_post("/", ok)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
        stranger = Http(HttpOptions(url))
        with pytest.raises(Refused, match="certificate is not trusted"):
            await stranger.send([letter(1)])
        await stranger.close()
        friend = Http(HttpOptions(url, ca=certificate / "certificate"))
        await friend.send([letter(1)])
        await friend.close()
        plain = Http(HttpOptions(url.replace("https", "http")))
        with pytest.raises(Unreachable):
            await plain.send([letter(1)])
        await plain.close()
        await runner.cleanup()

    delivery_subjects.run(main)


def test_authorities_that_cannot_be_used_are_refused_by_name(tmp_path):
    async def main():
        with pytest.raises(Refused, match=r"gone\.pem"):
            await Http(HttpOptions("https://x.test/", ca=tmp_path / "gone.pem")).open()

    delivery_subjects.run(main)


def test_secrets_do_not_show():
    options = HttpOptions(
        "http://me:geheim@x.test/?k=geheim", (("Authorization", "geheim"),), secret="geheim"
    )
    assert "geheim" not in repr(options)
