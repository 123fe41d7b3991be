import pytest

from streamfaas.wire.http import shown


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://x.test/a/b", "https://x.test/a/b"),
        ("https://me:geheim@x.test:8443/a?k=geheim#geheim", "https://x.test:8443/a?…"),
        ("http://geheim@[::1]:80/", "http://[::1]:80/"),
        ("/only/a/path", "/only/a/path"),
        ("https://x.test/%zz", "https://x.test/%zz"),
        ("http://[half", "an address that cannot be read"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url, told):
    assert shown(url) == told
