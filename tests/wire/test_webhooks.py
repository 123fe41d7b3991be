import base64

import pytest

from streamfaas.wire.webhooks import signed_headers, signing_key


def test_the_signature_is_the_one_of_the_example_that_receivers_are_tested_with():
    headers = signed_headers(
        signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330.7,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_secret_may_come_without_its_prefix():
    text = base64.b64encode(bytes(24)).decode()
    assert signing_key(text) == signing_key(f"whsec_{text}") == bytes(24)


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ("whsec_geheim!", "is not base64"),
        ("geheim-ü", "is not base64"),
        ("", "a key of 0 bytes, where 24 to 64 are wanted"),
        (base64.b64encode(bytes(23)).decode(), "a key of 23 bytes"),
        (base64.b64encode(bytes(65)).decode(), "a key of 65 bytes"),
    ],
)
def test_a_secret_that_is_none_is_told_without_showing_it(secret, told):
    with pytest.raises(ValueError, match=told) as caught:
        signing_key(secret)
    assert "geheim" not in str(caught.value)
