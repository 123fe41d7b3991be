from base64 import b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.wire.inbound import Head, authorised

SECRETS = st.text(st.characters(codec="ascii", exclude_characters=":"), min_size=1).filter(
    lambda text: text == text.strip()
)


def head(authorization="", query=""):
    return Head("POST", query, {"authorization": authorization} if authorization else {})


def basic(user, password=""):
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@given(SECRETS)
def test_a_secret_may_be_said_as_a_bearer_in_an_address_or_as_a_token(secret):
    for said in (
        head(f"Bearer {secret}"),
        head(f"bearer   {secret}"),
        head(basic(secret)),
        head(basic("ceph", secret)),
        head(query=f"a=b&token={quote(secret, safe='')}"),
    ):
        assert authorised(said, secret)
        assert not authorised(said, secret + "x")


@pytest.mark.parametrize(
    "said",
    [
        head(),
        head("Bearer"),
        head("Bearer "),
        head("secret"),
        head("Basic secret"),
        head("Basic !!!"),
        head("Basic " + b64encode(b"\xff\xfe").decode()),
        head("Bearer secre"),
        head("Bearer secret secret"),
        head("Digest secret"),
        head(query="token="),
        head(query="token=SECRET"),
        head(query="Token=secret"),
        head(query="&".join(["a=b"] * 20) + "&token=secret"),
        head(query="%"),
    ],
)
def test_everything_else_is_not_the_secret(said):
    assert not authorised(said, "secret")


@given(st.text(), st.text())
def test_any_words_are_judged(authorization, query):
    assert not authorised(head(authorization, query), "a secret that nobody knows")
