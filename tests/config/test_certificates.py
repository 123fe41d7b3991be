"""Certificates and keys are opened when a configuration is checked."""

import shutil

import pytest

from certificates import make_certificate
from config_project import KAFKA, found, project  # noqa: F401

LOCKED = ("-passout", "pass:open sesame")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_certificate(folder, "one")
    make_certificate(folder, "other")
    make_certificate(folder, "locked", *LOCKED)
    return folder


@pytest.fixture
def certified(project, made):  # noqa: F811
    return shutil.copytree(made, project, dirs_exist_ok=True)


def told(base, tls):
    text = KAFKA.replace("brokers:", f"tls: {tls}, brokers:") + "}\n"
    return [one.partition(" SF1075 connections.main.tls.")[2] for one in found(text, base, PW="open sesame")]  # fmt: skip


@pytest.mark.parametrize(
    "tls",
    [
        "{ca: one.pem}",
        "{certificate: one.pem, key: one.key, ca: other.pem}",
        "{certificate: locked.pem, key: locked.key, password: '${PW}'}",
    ],
)
def test_what_fits_is_fine(certified, tls):
    assert told(certified, tls) == []


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        ("{ca: one.key}", "ca: BASE/one.key holds no certificate in PEM"),
        ("{ca: code/app.py}", "ca: BASE/code/app.py holds no certificate in PEM"),
        ("{certificate: one.pem, key: other.key}", "key: BASE/other.key: it is not the key of BASE/one.pem"),
        (
            "{certificate: locked.pem, key: locked.key}",
            "key: BASE/locked.key: it wants a password, or it or BASE/locked.pem is not PEM",
        ),
        (
            "{certificate: locked.pem, key: locked.key, password: '${PW}x'}",
            "key: BASE/locked.key: the password does not open it, or it or BASE/locked.pem is not PEM",
        ),
        (
            "{certificate: code/app.py, key: one.key}",
            "key: BASE/one.key: it wants a password, or it or BASE/code/app.py is not PEM",
        ),
    ],
)  # fmt: skip
def test_what_does_not_is_told(certified, tls, message):
    assert told(certified, tls) == [message]


def test_the_authority_of_a_destination_is_looked_at_too(certified):
    text = KAFKA + ", on_failure: {type: http, url: 'https://x/y', ca: one.key}}\n"
    (one,) = found(text, certified)
    assert one.endswith("on_failure.ca: BASE/one.key holds no certificate in PEM")
