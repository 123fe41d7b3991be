"""`streamfaas install-service` writes a unit that fits the configuration, and overwrites no other."""

import importlib
import os
import pwd
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import parts
from ordinary_user import as_ordinary_user
from streamfaas.cli import install_service
from streamfaas.cli.main import main

CONFIG = """
version: 1
shutdown: {grace: 20s}
connections:
  main:
    type: kafka
    brokers: ["k1:9092"]
    sasl: {mechanism: PLAIN, username: me, password: "${credential:kafka-password}"}
    tls: {}
functions:
  orders:
    code: code
    handler: app.main
    timeout: 40s
    env: {REGION: "${REGION:-here}"}
    triggers:
      orders: {type: kafka, connection: main, topics: [orders], start: latest%s}
"""

root = pytest.mark.skipif(os.geteuid() != 0, reason="changes users, which only root can")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project that everybody may read, and a folder for units in the place of the system's."""
    monkeypatch.chdir(tmp_path)
    parts.open_to_others(tmp_path)
    monkeypatch.setattr(install_service, "SYSTEM_UNITS", tmp_path / "units")
    for name in ("code", "credentials", "units"):
        (tmp_path / name).mkdir(mode=0o755)
    (tmp_path / "code" / "app.py").write_text("def main(event, context): pass\n")
    (tmp_path / "credentials" / "kafka-password").write_text("hush")
    (tmp_path / "credentials" / "kafka-password").chmod(0o600)
    configure(tmp_path)
    return tmp_path


def configure(home, more="", **replaced):
    text = CONFIG % more
    for old, new in replaced.items():
        text = text.replace(old, new)
    (home / "streamfaas.yaml").write_text(text)
    (home / "streamfaas.yaml").chmod(0o644)


def install(*arguments):
    return CliRunner().invoke(
        main, ["install-service", "--credentials", "credentials", *arguments]
    )  # fmt: skip


@root
def test_it_writes_the_unit_and_says_what_to_do_next(home):
    result = install()
    assert result.exit_code == 0, result.output
    unit = home / "units" / "streamfaas.service"
    assert result.stdout.startswith(f"wrote {unit}\n")
    assert "  systemctl daemon-reload\n  systemctl enable --now streamfaas\n" in result.stdout
    if shutil.which("systemd-analyze"):
        assert "exposure 2." in result.stdout
    assert "takes REGION from /etc/default/streamfaas" in result.stderr
    lines = unit.read_text().splitlines()
    assert unit.stat().st_mode & 0o777 == 0o644
    assert f"LoadCredential=kafka-password:{home}/credentials/kafka-password" in lines
    assert "TimeoutStopSec=90" in lines  # 40 and 20 and 30
    assert "DynamicUser=yes" in lines
    assert "StateDirectory=streamfaas" in lines
    assert f"BindReadOnlyPaths={home}/code" in lines  # since all of /tmp is hidden
    (command,) = [line for line in lines if line.startswith("ExecStart=/")]
    assert command.endswith(f" run {home}/streamfaas.yaml")
    assert Path(command.split("=")[1].split()[0]).is_file()
    assert "hush" not in unit.read_text()
    assert [each.name for each in unit.parent.iterdir()] == ["streamfaas.service"]


@root
def test_its_own_unit_is_written_anew_and_another_only_by_force(home):
    unit = home / "units" / "orders.service"
    assert install("--name", "orders").exit_code == 0
    assert install("--name", "orders").exit_code == 0
    unit.write_text("[Service]\nExecStart=/bin/mine\n")
    result = install("--name", "orders")
    assert result.exit_code == 1
    assert f"{unit} was not written by this command: nothing was changed" in result.stderr
    assert unit.read_text() == "[Service]\nExecStart=/bin/mine\n"
    assert install("--name", "orders", "--force").exit_code == 0
    assert unit.read_text().startswith("# Written by `streamfaas install-service`")


@root
def test_who_owns_what_is_written_is_who_it_runs_as(home):
    daemon = pwd.getpwnam("daemon")
    (home / "dead").mkdir()
    configure(home, ", on_failure: {type: file, path: dead/orders.jsonl}")
    result = install("--dry-run")
    assert result.exit_code == 1
    assert f"the service writes to {home}/dead: give all of it to one user" in result.stderr
    result = install("--dry-run", "--run-as", "daemon")
    assert result.exit_code == 1
    assert f"daemon cannot write to {home}/dead" in result.stderr
    os.chown(home / "dead", daemon.pw_uid, daemon.pw_gid)
    result = install("--dry-run")
    assert result.exit_code == 0, result.output
    assert "\nUser=daemon\n" in result.stdout
    assert f"\nBindPaths={home}/dead\n" in result.stdout
    (home / "dead").rmdir()
    result = install("--dry-run")
    assert f"there is no directory {home}/dead, and the service writes to it" in result.stderr


@root
def test_what_the_user_of_the_service_may_not_read_is_found_before_it_is_started(home):
    (home / "streamfaas.yaml").chmod(0o600)
    result = install("--dry-run")
    assert result.exit_code == 78
    assert "the file cannot be read: Permission denied" in result.stderr
    assert "so it looks for nobody; --run-as names another user" in result.stderr
    assert os.geteuid() == 0
    assert install("--dry-run", "--run-as", "nobody-of-this-name").exit_code == 2


def test_a_state_directory_below_that_of_all_services_is_made_by_systemd(home):
    text = (home / "streamfaas.yaml").read_text()
    (home / "streamfaas.yaml").write_text(f"state: {{path: /var/lib/orders-here}}{text}")
    result = install("--dry-run")
    assert result.exit_code == 0, result.output
    assert "\nStateDirectory=orders-here\n" in result.stdout


def test_a_credential_that_is_missing_is_told_where_it_is_used(home):
    (home / "credentials" / "kafka-password").unlink()
    result = install("--dry-run")
    assert result.exit_code == 78
    assert "SF1032" in result.stderr
    assert list((home / "units").iterdir()) == []


@pytest.mark.parametrize("name", ["", "a b", "../up", "x@y", "-x"])
def test_a_name_that_is_none_is_refused(home, name):
    assert install("--dry-run", f"--name={name}").exit_code == 2


def test_ones_own_service_needs_no_root(home, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    result = install("--user")
    assert result.exit_code == 0, result.output
    unit = home / "config" / "systemd" / "user" / "streamfaas.service"
    assert "DynamicUser" not in unit.read_text()
    assert f"EnvironmentFile=-{home}/config/streamfaas.env" in unit.read_text()
    assert "  systemctl --user daemon-reload\n" in result.stdout
    assert install("--user", "--run-as", "daemon").exit_code == 2


def test_who_is_not_root_is_told_so(home):
    importlib.import_module("streamfaas.cli.install_service")

    def asked():
        result = install()
        return f"{result.exit_code} {result.stderr}"

    told = as_ordinary_user(asked)
    assert told.startswith(f"1 streamfaas: only root can write {home}/units/streamfaas.service: ")
    assert "--user" in told
