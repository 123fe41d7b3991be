"""A file as a whole: what it must be, whose it must be, and who may read it."""

import os

import pytest

from config_project import HEAD, KAFKA, line, project  # noqa: F401
from streamfaas.config.load import examine, load
from streamfaas.config.place import socket_of
from streamfaas.flow.errors import ConfigError


@pytest.fixture
def file(project):  # noqa: F811
    path = project / "streamfaas.yaml"
    path.write_text(HEAD)
    path.chmod(0o600)
    return path


def told(path, **environ):
    return [line(problem, path.parent) for problem in examine(path, environ).problems]


def test_a_good_file_is_loaded(file):
    config = load(file, {})
    assert config.file == file
    assert list(config.functions) == ["f"]
    assert config.warnings == ()


def test_a_bad_file_raises_everything_at_once_with_its_text(file):
    file.write_text(HEAD + "    memory: 1\n    timeout: 2\n")
    with pytest.raises(ConfigError) as error:
        load(file, {})
    assert [problem.code for problem in error.value.problems] == ["SF1046", "SF1045"]
    assert error.value.name == str(file)
    assert error.value.text == file.read_text()


def test_warnings_do_not_stop_a_file_and_are_kept(file):
    file.write_text(
        KAFKA.replace("main: {", "spare: {type: kafka, brokers: [k2:9092]}\n  main: {") + "}\n"
    )
    config = load(file, {})
    assert [problem.code for problem in config.warnings] == ["SF1093"]


def test_what_cannot_be_read_is_told(file, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert told(tmp_path / "nope.yaml") == [
        "0:0 SF1001: the file cannot be read: No such file or directory | make a project: streamfaas new"
    ]
    for path in (tmp_path / "pipe", tmp_path):
        assert told(path) == ["0:0 SF1001: the file cannot be read: it is not a regular file"]
    assert told(tmp_path / "a\0b") == ["0:0 SF1001: the file cannot be read: embedded null byte"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (HEAD.encode("utf-16"), "1:1 SF1003: the file is UTF-16 | save it as UTF-8"),
        (b"\xef\xbb\xbf" + HEAD.encode(), "1:1 SF1003: the file begins with a byte order mark | save it as UTF-8 without one"),
        (b"version: 1\nx: \xe9\n", "2:4 SF1003: byte 0xe9 is not UTF-8 | save it as UTF-8"),
        (b"version: 1\nx: \0\n", "2:4 SF1003: control character U+0000"),
        (b"#" * (1024 * 1024 + 1), "0:0 SF1002: the file is larger than 1 MiB"),
    ],
)  # fmt: skip
def test_what_is_not_utf8_is_told_with_its_place(file, data, problem):
    file.write_bytes(data)
    assert told(file) == [problem]


def test_a_file_that_everybody_may_write_is_refused(file):
    file.chmod(0o602)
    assert told(file) == ["0:0 SF1020: the file may be written by everybody | chmod o-w"]
    with pytest.raises(ConfigError):
        load(file, {})


def test_a_directory_that_everybody_may_write_is_refused(file):
    file.parent.chmod(0o777)
    assert told(file) == [
        "0:0 SF1020: the file's directory may be written by everybody | chmod o-w",
        "1:1 SF1022 state.path: BASE/state lies in BASE, which may be written by everybody | chmod o-w BASE",
    ]
    file.parent.chmod(0o1777)  # as /tmp: nobody can replace another's file
    assert told(file) == []
    file.parent.chmod(0o700)


@pytest.mark.root
def test_a_file_of_another_user_is_refused(file):
    os.chown(file, 12_345, -1)
    assert told(file) == [
        "0:0 SF1020: the file belongs to another user, 12345 | chown it to the daemon's user"
    ]


def test_a_plain_secret_is_an_error_where_others_may_read_it(file):
    text = KAFKA.replace(
        "brokers:", "tls: {}, sasl: {mechanism: PLAIN, username: u, password: hunter2}, brokers:"
    )
    file.write_text(text + "}\n")
    assert [one[:9] for one in told(file)] == ["w 3:80 SF"]
    for mode in (0o640, 0o604):
        file.chmod(mode)
        found = examine(file, {})
        assert found.config is None
        (one,) = told(file)
        assert one == (
            "3:80 SF1021 connections.main.sasl.password: a secret in plain text, in a file that others may read"
            " | chmod 600, or write ${credential:main-password} or ${file:…}"
        )
        assert "hunter2" not in found.text
    file.write_text(text.replace("hunter2", '"${PW}"') + "}\n")
    assert told(file, PW="hunter2") == []


@pytest.mark.parametrize(
    ("mode", "reason"),
    [(0o707, "may be written by everybody | chmod o-w"), (0o755, None), (0o700, None)],
)
def test_a_state_directory_that_everybody_may_write_is_refused(file, mode, reason):
    file.write_text("state: {path: mine}\n" + HEAD)
    (file.parent / "mine").mkdir()
    (file.parent / "mine").chmod(mode)
    assert told(file) == ([f"1:15 SF1022 state.path: BASE/mine {reason}"] if reason else [])


def test_a_linked_state_directory_is_refused_unless_the_service_manager_gave_it(file):
    file.write_text("state: {path: link}\n" + HEAD)
    assert told(file) == [
        "1:15 SF1022 state.path: BASE/link is a symbolic link | give the directory itself"
    ]
    for text in (HEAD, f"state: {{path: {file.parent}/link}}\n" + HEAD):
        file.write_text(text)
        given = {"STATE_DIRECTORY": str(file.parent / "link")}
        assert told(file, **given) == []
        # what the store is given is no link: it would not take one
        assert load(file, given).state.path == file.parent / "inbox"


def test_the_socket_is_found_though_the_file_is_broken(file):
    base = file.parent
    assert socket_of(file, {}) == base / "state" / "streamfaas.sock"
    assert socket_of(file, {"STATE_DIRECTORY": "/s"}).parts[:2] == ("/", "s")
    file.write_text("state: {path: '${WHERE}'}\nfunctions: 3\n")
    assert socket_of(file, {"WHERE": "/there"}).parent.name == "there"
    file.write_text("state: 3")
    assert socket_of(file, {}) == base / "state" / "streamfaas.sock"
    file.write_text("state: {")
    with pytest.raises(ConfigError):
        socket_of(file, {})
