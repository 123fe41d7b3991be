"""The units as text: what is shipped, and what a configuration makes of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config_project import HEAD, project  # noqa: F401
from parts import CHECKOUT, missing
from streamfaas.config.check import check
from streamfaas.daemon import unit
from streamfaas.daemon.unit import Service

SHIPPED = CHECKOUT / "deploy" / "systemd"
ORIGIN = (
    "Shipped with streamfaas. `streamfaas install-service` writes one that fits a configuration."
)
PROGRAM = "/opt/streamfaas/bin/streamfaas"
STOP_SECONDS = 900 + 30 + 30  # the longest timeout there is, the usual grace, and the end
UNITS = {
    "streamfaas.service": Service(
        origin=ORIGIN,
        command=f"{PROGRAM} run /etc/streamfaas/streamfaas.yaml",
        reload=f"{PROGRAM} reload --config /etc/streamfaas/streamfaas.yaml",
        state="streamfaas",
        stop_seconds=STOP_SECONDS,
        environment="EnvironmentFile=-/etc/default/streamfaas",
    ),
    "streamfaas@.service": Service(
        origin=f"{ORIGIN}\n# The instance is the name of a configuration: streamfaas@orders has orders.yaml.",
        command=f"{PROGRAM} run /etc/streamfaas/%i.yaml",
        reload=f"{PROGRAM} reload --config /etc/streamfaas/%i.yaml",
        title=" on %i.yaml",
        state="streamfaas-%i",
        stop_seconds=STOP_SECONDS,
        environment="EnvironmentFile=-/etc/default/streamfaas-%i",
    ),
}


def has(text, *lines):
    return all(line in text.splitlines() for line in lines)


@pytest.mark.parametrize("name", UNITS)
def test_what_is_shipped_comes_from_the_same_template(name):
    again = f"write them anew: PYTHONPATH=tests {sys.executable} {__file__}"
    assert (SHIPPED / name).read_text() == unit.text(UNITS[name]), again


@pytest.fixture
def analyzed(tmp_path):
    """A way to put a unit to `systemd-analyze`: its exit status and what it said."""
    program = shutil.which("systemd-analyze")
    if program is None:
        missing("systemd-analyze (of Debian's package systemd)")

    def analyze(text, verb, *options, name="streamfaas.service"):
        path = tmp_path / name
        path.write_text(text.replace(PROGRAM, sys.executable))
        done = subprocess.run(
            [program, verb, *options, str(path)], capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return analyze


VERIFY = ("verify", "--man=no", "--recursive-errors=yes")
SECURITY = ("security", "--offline=true", "--no-pager", "--threshold=30")

BOUND = Service(
    origin="A test's.",
    command=unit.quoted(sys.executable, "-m", 'a word with $HOME, 100 % and "quotes"'),
    title=" on 100 %",
    state="streamfaas",
    stop_seconds=45,
    user="daemon",
    reads=(Path("/home/somebody/a b/100%"), Path("/srv/in"), Path("/srv/o:ut/it's")),
    writes=(Path("/srv/o:ut"), Path("/var/tmp/o:ut")),
    credentials={"kafka-password": Path("/etc/credstore/kafka-password")},
)  # fmt: skip
ALL = {**UNITS, "bound.service": BOUND}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_systemd_finds_nothing_wrong_and_little_exposed(analyzed, name):
    text = unit.text(ALL[name])
    assert analyzed(text, *VERIFY, name=name) == (0, "")
    status, told = analyzed(text, *SECURITY, name=name)
    assert status == 0, told


@pytest.mark.slow
def test_ones_own_manager_finds_nothing_wrong_either(analyzed):
    own = Service("A test's.", unit.quoted(sys.executable), "streamfaas", 45, own=True)
    assert analyzed(unit.text(own), *VERIFY, "--user") == (0, "")


@pytest.mark.slow
def test_the_two_checks_of_systemd_do_find_what_is_planted(analyzed):
    text = unit.text(UNITS["streamfaas.service"])
    status, told = analyzed(text.replace("ProtectHome=", "ProtectHomes="), *VERIFY)
    assert status == 1
    assert "'ProtectHomes'" in told
    bare = re.sub(
        r"^(Capability|SystemCall|NoNew|ProtectS|ProtectK).*\n", "", text, flags=re.MULTILINE
    )
    status, told = analyzed(bare, *SECURITY)
    assert status == 1, told


def test_paths_are_opened_where_they_would_be_hidden_or_read_only():
    text = unit.text(BOUND)
    assert has(
        text,
        "ProtectHome=tmpfs",
        'BindReadOnlyPaths="/home/somebody/a b/100%%"',
        'ReadWritePaths="/srv/o:ut"',
        'ReadOnlyPaths="/srv/o:ut/it\'s"',
        'BindPaths="/var/tmp/o:ut"',
        "LoadCredential=kafka-password:/etc/credstore/kafka-password",
        "Description=streamfaas on 100 %%",
        "User=daemon",
    )
    assert "/srv/in" not in text  # in sight as it is
    assert "DynamicUser" not in text
    assert has(unit.text(UNITS["streamfaas.service"]), "ProtectHome=yes", "DynamicUser=yes")


def test_links_are_opened_with_what_they_lead_to_and_no_path_twice(tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    reads = (tmp_path / "link", tmp_path / "real" / "deep", tmp_path / "written" / "in")
    text = unit.text(Service("", "x", "s", 1, reads=reads, writes=(tmp_path / "written",)))
    bound = [line for line in text.splitlines() if line.startswith("Bind")]
    assert bound == [
        f"BindPaths={tmp_path}/written",
        f"BindReadOnlyPaths={tmp_path}/link",
        f"BindReadOnlyPaths={tmp_path}/real",
        f"BindReadOnlyPaths={tmp_path}/written/in",
    ]


def test_a_unit_of_ones_own_asks_for_nothing_that_only_the_system_has():
    text = unit.text(Service("", "x", "s", 1, own=True))
    assert has(text, "WantedBy=default.target", "NoNewPrivileges=yes", "WatchdogSec=30")
    for word in ("DynamicUser", "Protect", "Private", "Delegate", "Capability", "network-online"):
        assert word not in text


def test_places_and_the_time_to_end_come_from_the_configuration(project):  # noqa: F811
    text = (
        "shutdown: {grace: 10s}\n"
        "telemetry: {logs: {directory: logs}}\n"
        + HEAD
        + "    timeout: 90s\n"
        + "    env: {KEY: '${file:key}'}\n"
        + "    asynchronous: {on_failure: {type: file, path: out/dead.jsonl}}\n"
        + "    triggers:\n"
        + "      a: {type: object-store, via: directory, path: inbox, bucket: inbox, write: true}\n"
    )
    (project / "key").write_text("secret")
    (project / "key").chmod(0o600)
    config, problems = check(text, name="streamfaas.yaml", base_dir=project, environ={})
    assert config is not None, problems
    found = unit.places(config)
    assert set(found.reads) == {project / each for each in ("streamfaas.yaml", "key", "code")}
    assert set(found.writes) == {project / each for each in ("out", "inbox", "logs")}
    assert unit.stop_seconds(config) == 90 + 10 + 30


if __name__ == "__main__":
    for name, service in UNITS.items():
        (SHIPPED / name).write_text(unit.text(service))
