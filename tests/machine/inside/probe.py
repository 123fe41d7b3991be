"""Runs inside the machine, as root and on the standard library: installs the service, does to it
whatever happens to services, and tells of each step in a line of JSON."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

BIN = "/opt/streamfaas/bin/streamfaas"
CONFIG = Path("/etc/streamfaas/streamfaas.yaml")
INBOX = Path("/srv/inbox")
STATE = Path("/var/lib/streamfaas")
UNIT = "streamfaas.service"
STEPS = []
PATIENCE_SECONDS = 90.0
WATCHDOG_SECONDS = 30 + 10  # until it is fed no more, and until the end is forced


def step(function):
    STEPS.append(function)
    return function


def run(*command, status=0, seconds=300):
    """What a command printed; it must end with this status, or any where that is None."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    said = done.stdout.strip()
    assert status in (None, done.returncode), f"{command} ended with {done.returncode}: {said}"
    return said


def shown(*names):
    """Properties of the unit."""
    said = run("systemctl", "show", UNIT, *(f"--property={name}" for name in names))
    found = dict(line.partition("=")[::2] for line in said.splitlines())
    return found[names[0]] if len(names) == 1 else [found[name] for name in names]


def journal():
    return run("journalctl", "--unit", UNIT, "--output", "cat", "--no-pager", "--quiet")


def until(condition, what, seconds=PATIENCE_SECONDS):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}\n{journal()[-3000:]}"
        time.sleep(0.2)
    return found


def drop(name):
    """A new file, whole at once."""
    hidden = INBOX / f".{name}"
    hidden.write_text("content\n")
    hidden.rename(INBOX / name)


def said(words):
    return journal().count(words)


def processed(name):
    drop(name)
    until(lambda: said(f"ended {name} "), f"the function has seen {name}")


def active():
    return shown("ActiveState") == "active"


def main_pid():
    return int(shown("MainPID"))


def members():
    """Processes of the unit, whoever they are the children of."""
    group = Path("/sys/fs/cgroup" + shown("ControlGroup"))
    return [int(p) for file in group.rglob("cgroup.procs") for p in file.read_text().split()]


@step
def the_machine():
    """Debian and systemd, booted"""
    state = run("systemctl", "is-system-running", status=None)
    version = run("systemctl", "--version").splitlines()[0]
    return f"{version}; kernel {os.uname().release}; {state}; {run('/usr/bin/python3', '-V')}"


@step
def installed():
    """install-service writes a unit"""
    for path, mode in ((CONFIG.parent, 0o755), (INBOX, 0o755), (Path("/etc/credstore"), 0o700)):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
    CONFIG.write_text(Path("/srv/streamfaas.yaml").read_text())
    Path("/etc/credstore/key").write_text("hush")
    Path("/etc/credstore/key").chmod(0o600)
    written = run(BIN, "install-service", "--config", str(CONFIG))
    run("systemctl", "daemon-reload")
    return written


@step
def verified():
    """systemd finds nothing wrong with it, nor with the units that are shipped"""
    template = Path("/srv/shipped/streamfaas@.service")
    instance = template.with_name("streamfaas@orders.service")
    instance.symlink_to(template.name)
    units = [f"/etc/systemd/system/{UNIT}", f"/srv/shipped/{UNIT}", str(instance)]
    for unit in units:
        said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", unit)
        assert not said, said
    return "not a word about any of them"


@step
def started():
    """it starts, and says when it is ready"""
    began = time.monotonic()
    run("systemctl", "enable", "--now", UNIT)
    seconds = time.monotonic() - began
    text = shown("StatusText")
    assert text.startswith("1 functions, 1 triggers"), text
    full = run("systemctl", "status", "--no-pager", "--lines=0", UNIT)
    assert f'Status: "{text}"' in full, full
    return f"after {seconds:.1f} s\n{full}"


@step
def confined():
    """a user of the moment, without capabilities, and workers fully isolated"""
    status = Path(f"/proc/{main_pid()}/status").read_text()
    found = {name: re.search(rf"^{name}:\s*(\S+)", status, re.MULTILINE)[1] for name in KINDS}
    assert 61_184 <= int(found["Uid"]) <= 65_519, found
    assert int(found["CapBnd"], 16) == int(found["CapEff"], 16) == 0, found
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2"), found
    assert said("isolation files: full"), journal()
    return found


KINDS = ("Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")


@step
def exposed():
    """systemd rates its exposure"""
    lines = run("systemd-analyze", "security", "--threshold=30", "--no-pager", UNIT).splitlines()
    return lines[-1].strip()


@step
def delegated():
    """its group is its own"""
    delegate, controllers, group, limit = shown(
        "Delegate", "DelegateControllers", "ControlGroup", "TasksMax"
    )
    assert delegate == "yes"
    folder = Path("/sys/fs/cgroup" + group)
    uid = int(shown("UID"))
    assert folder.stat().st_uid == uid
    pid = os.fork()
    if pid == 0:  # as it would do it
        os.setgid(uid)
        os.setuid(uid)
        with contextlib.suppress(OSError):
            (folder / "try").mkdir()
            (folder / "try").rmdir()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0, "it may not make a group below its own"
    there = (folder / "cgroup.controllers").read_text().split()
    assert {"cpu", "memory", "pids", "io"} <= set(there), there
    return f"{controllers}; tasks at most {limit}; in it {len(members())} processes"


@step
def records():
    """files flow through the function, which has its credential"""
    for name in ("a.txt", "b.txt"):
        processed(name)
    assert said("ended a.txt by first with hush"), journal()
    assert b"hush" not in Path(f"/proc/{main_pid()}/environ").read_bytes()
    fields = ("--unit", UNIT, "STREAMFAAS_FUNCTION=files", "--output", "cat", "--no-pager")
    assert "ended b.txt by first" in run("journalctl", *fields), journal()
    return run(BIN, "status", "--socket", str(STATE / "streamfaas.sock"))


@step
def reloaded():
    """systemctl reload changes a function, and nobody notices"""
    assert shown("CanReload") == "yes", "the unit has no ExecReload"
    pid = main_pid()
    CONFIG.write_text(CONFIG.read_text().replace("EDITION: first", "EDITION: second"))
    run("systemctl", "reload", UNIT)
    processed("c.txt")
    assert said("ended c.txt by second"), journal()
    assert (main_pid(), shown("NRestarts")) == (pid, "0")
    good = CONFIG.read_text()
    CONFIG.write_text(good.replace("timeout: 60s", "timeout: never"))
    refused = run("systemctl", "reload", UNIT, status=1)
    CONFIG.write_text(good)
    processed("d.txt")
    assert main_pid() == pid
    return refused


@step
def killed():
    """killed, it comes back, and leaves nobody behind"""
    before, pid = set(members()), main_pid()
    os.kill(pid, signal.SIGKILL)
    until(lambda: shown("NRestarts") == "1" and active(), "it was started again")
    assert not before & set(members()), "processes of the first one live on"
    assert main_pid() != pid
    processed("e.txt")
    return f"{len(before)} processes went with it"


@step
def watched():
    """stuck, it is ended by the watchdog, and comes back"""
    began = time.monotonic()
    os.kill(main_pid(), signal.SIGSTOP)
    until(lambda: shown("NRestarts") == "2" and active(), "started again", WATCHDOG_SECONDS * 3)
    assert "Watchdog timeout" in run("journalctl", "--unit", UNIT, "--no-pager"), journal()
    processed("f.txt")
    return f"after {time.monotonic() - began:.0f} s"


@step
def drained():
    """stopped, it finishes the call in hand, in less time than it is given"""
    drop("slow.txt")
    until(lambda: said("began slow.txt"), "a call is in hand")
    began, given = time.monotonic(), shown("TimeoutStopUSec")
    run("systemctl", "stop", UNIT)
    seconds = time.monotonic() - began
    assert said("ended slow.txt"), journal()
    assert shown("ActiveState", "Result") == ["inactive", "success"], journal()
    private = Path("/var/lib/private/streamfaas")
    assert STATE.resolve() == private
    return (
        f"in {seconds:.1f} s of {given}; state stays in {sorted(e.name for e in private.iterdir())}"
    )


@step
def resumed():
    """started again, it does nothing twice"""
    run("systemctl", "start", UNIT)
    processed("g.txt")
    again = [name for name in "abcdefg" if said(f"began {name}.txt") > 1]
    assert (again, said("began slow.txt")) == ([], 1)
    return "each file was seen once"


@step
def refused():
    """a configuration that is not valid fails it for good"""
    run("systemctl", "stop", UNIT)
    CONFIG.write_text(CONFIG.read_text().replace("grace: 20s", "grace: soon"))
    run("systemctl", "start", UNIT, status=1)
    until(lambda: shown("ActiveState") == "failed", "it has failed")
    assert shown("ExecMainStatus") == "78"
    time.sleep(3)
    assert shown("ActiveState") == "failed", "it was tried again"
    return journal().splitlines()[-8:]


def tell(**what):
    print("PROBE", json.dumps(what), flush=True)


def main():
    for function in STEPS:
        began = time.monotonic()
        try:
            said, passed = function(), True
        except Exception as error:  # whatever it is, the next step says more
            said, passed = f"{type(error).__name__}: {error}", False
        seconds = round(time.monotonic() - began, 1)
        tell(step=function.__doc__, passed=passed, seconds=seconds, said=said)
    tell(over=True)


main()
