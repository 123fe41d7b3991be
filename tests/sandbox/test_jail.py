"""What a handler can and cannot do, tried from inside a worker and looked at from outside."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import pytest

from sandbox_users import AS_BOTH, ORDINARY, code, need
from zygote_harness import ENTRY, WORKER_UID, ZYGOTE, Zygote

pytestmark = pytest.mark.slow  # starting a zygote takes most of it


@pytest.fixture(scope="module", params=[0, -1], ids=["as-root", "as-user"])
def zygote(request):
    uid = need(ORDINARY if request.param else 0)
    os.environ["STREAMFAAS_TEST_SECRET"] = "the daemon's own"
    ignored = (signal.SIGHUP, signal.SIGINT)  # by `nohup`, and behind a shell's `&`
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    with code(uid) as folder, Zygote(folder, uid=uid, options={"env": {"MINE": "set"}}) as zygote:
        for number, handler in before.items():
            signal.signal(number, handler)
        yield zygote
    del os.environ["STREAMFAAS_TEST_SECRET"]


@pytest.fixture
def worker(zygote):
    worker = zygote.spawn()
    yield worker
    zygote.end(worker)


def test_every_control_is_enforced(zygote):
    assert zygote.said["type"] == "ready", zygote.said
    assert zygote.said["level"] == "full"
    assert set(zygote.said["controls"].values()) == {"enforced"}
    assert zygote.said["missing"] == []


def test_a_worker_sees_no_process_but_its_own(worker):
    seen = worker.run("import os; result = [n for n in os.listdir('/proc') if n.isdigit()]")
    assert seen == ["1", "2"]  # the first of its namespace, which only waits, and itself
    assert worker.run("import os; result = [os.getpid(), os.getppid(), os.getsid(0)]") == [2, 1, 2]


def test_children_that_were_left_behind_are_reaped(worker):
    left = worker.run(
        """
        import os, time
        for _ in range(20):
            if os.fork() == 0:
                if os.fork():
                    os._exit(0)
                os._exit(0)
            os.wait()
        until = time.monotonic() + 5
        while len(result := [n for n in os.listdir("/proc") if n.isdigit()]) > 2:
            if time.monotonic() > until: break
            time.sleep(0.01)
        """
    )
    assert left == ["1", "2"]


def test_the_host_s_files_are_not_there(worker):
    names = [str(ZYGOTE), str(ENTRY), str(Path.home()), "/etc/shadow", "/home", "/var/lib", "/sys"]
    seen = worker.run(f"import os; result = [n for n in {names!r} if os.path.exists(n)]")
    home = str(Path.home())
    assert seen in ([], [home])
    if seen:  # the interpreter itself may lie below somebody's home: then only that is there
        entries = worker.run(f"import os; result = os.listdir({home!r})")
        assert entries == [Path(os.path.realpath(sys.base_prefix)).relative_to(home).parts[0]]


def test_packages_of_the_service_and_of_the_interpreter_are_not_there(worker):
    found = worker.run(
        """
        import glob, sys
        folders = [f"{sys.base_prefix}/lib*/python3*/*-packages", "/usr/lib/python3/*-packages",
                   "/usr/local/lib/python3*/*-packages"]
        result = [path for folder in folders for path in glob.glob(folder + "/*")]
        """
    )
    assert found == []


def test_no_environment_but_the_function_s_is_there(zygote, worker):
    seen = worker.run("import os; result = dict(os.environ)")
    expected = {"AWS_LAMBDA_LOG_STREAM_NAME": f"stream-{worker.number}", "_X_AMZN_TRACE_ID": ""}
    assert seen == zygote.spec()["env"] | expected
    raw = worker.run(
        "import glob; result = [open(p, 'rb').read().decode() for p in glob.glob('/proc/*/environ')]"
    )
    assert raw
    assert not any("STREAMFAAS_TEST_SECRET" in text or "MINE" in text for text in raw)


def test_code_and_system_are_read_only(worker):
    codes = worker.run(
        """
        import errno, os
        result = {}
        for place in ("/var/task", "/usr", "/etc", "/", "/dev", "/mnt"):
            try:
                os.open(place + "/new", os.O_WRONLY | os.O_CREAT)
                result[place] = None
            except OSError as error:
                result[place] = errno.errorcode[error.errno]
        try:
            os.open("/var/task/app.py", os.O_WRONLY)
        except OSError as error:
            result["app.py"] = errno.errorcode[error.errno]
        """
    )
    assert set(codes.values()) == {"EROFS"}


def test_scratch_space_ends_where_it_was_set(worker):
    written, reason, files = worker.run(
        """
        import errno, os
        written = 0
        try:
            with open("/tmp/big", "wb", buffering=0) as file:
                while True:
                    written += file.write(bytes(1 << 20))
        except OSError as error:
            reason = errno.errorcode[error.errno]
        os.unlink("/tmp/big")
        files = 0
        try:
            while True:
                os.close(os.open(f"/tmp/{files}", os.O_CREAT | os.O_WRONLY))
                files += 1
        except OSError:
            pass
        result = [written, reason, files]
        """
    )
    assert written <= 16 << 20
    assert written > 15 << 20
    assert reason == "ENOSPC"
    assert 1000 <= files <= 2048


def test_shared_memory_counts_as_scratch_space(worker):
    assert worker.run(
        """
        from multiprocessing.shared_memory import SharedMemory
        import os
        memory = SharedMemory(create=True, size=4096)
        result = os.listdir("/tmp") == [memory._name.lstrip("/")]
        memory.close(); memory.unlink()
        """
    )


def test_workers_do_not_see_each_other_s_files(zygote, worker):
    worker.run("open('/tmp/mine', 'w').write('x')")
    other = zygote.spawn()
    assert other.run("import os; result = os.listdir('/tmp')") == []
    zygote.end(other)


def test_descriptors_end_where_they_were_set(worker):
    opened = worker.run(
        """
        import os
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            result = [error.errno, max(held) + 1, len(held)]
        for each in held:
            os.close(each)
        """
    )
    number, most, count = opened
    assert number == 24  # EMFILE
    assert most <= 256
    assert 240 <= count < 256


def test_a_worker_holds_its_channel_and_three_streams_and_nothing_else(worker):
    held = worker.run(
        """
        import os
        result = {int(n): os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                  if os.path.exists(f"/proc/self/fd/{n}") or n in "012"}
        """
    )
    kinds = {int(number): target.split(":")[0] for number, target in held.items()}
    assert kinds.pop(max(kinds)) == "pipe"
    assert kinds.pop(max(kinds)) == "socket"
    assert kinds == {0: "/dev/null", 1: "pipe", 2: "pipe"}
    assert int(max(held, key=int)) > 150


def test_processes_end_where_they_were_set(worker):
    assert (
        32
        <= worker.run(
            """
        import os, signal
        children = []
        try:
            while len(children) < 1000:
                child = os.fork()
                if child == 0:
                    signal.pause()
                children.append(child)
        except BlockingIOError:
            pass
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)
        result = len(children)
        """
        )
        < 64
    )


def test_the_process_limit_is_each_worker_s_own(zygote, worker):
    """Counted for the function as a whole, the second worker would have nothing left."""
    worker.run("import subprocess; held = [subprocess.Popen(['sleep', '60']) for _ in range(50)]")
    other = zygote.spawn()
    assert (
        other.run("import subprocess; result = [subprocess.call(['true']) for _ in range(50)]")
        == [0] * 50
    )
    zygote.end(other)


def test_a_worker_has_no_capability_and_cannot_get_one(worker):
    status = worker.run("result = open('/proc/self/status').read()")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"].strip() == "1"


def test_a_worker_is_nobody_of_importance_on_the_host(zygote, worker):
    expected = WORKER_UID if zygote.uid == 0 else zygote.uid
    assert worker.status("Uid").split() == [str(expected)] * 4
    assert worker.status("Gid").split() == [str(expected)] * 4
    assert worker.status("Groups") in ("", str(expected))
    assert worker.run("import os, pwd; result = [os.getuid(), pwd.getpwuid(os.getuid())[0]]") == [
        993,
        "sbx_user993",
    ]


@AS_BOTH
def test_a_set_user_id_program_gains_nothing(uid):
    with code(need(uid)) as folder:
        program = folder / "id"
        program.write_bytes(Path("/usr/bin/id").read_bytes())
        if os.getuid() == 0:
            os.chown(program, 0, 0)
        program.chmod(0o6755)
        with Zygote(folder, uid=uid) as zygote:
            said = zygote.spawn().run(
                "import subprocess; result = subprocess.check_output(['/var/task/id', '-u']).decode()"
            )
    assert said.strip() == "993"


def test_namespaces_and_mounts_are_refused(worker):
    refused = worker.run(
        """
        import ctypes, errno, os
        libc = ctypes.CDLL(None, use_errno=True)
        calls = {
            "user": lambda: libc.unshare(0x10000000),
            "mount namespace": lambda: libc.unshare(0x20000),
            "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
            "remount": lambda: libc.mount(None, b"/var/task", None, 0x1020, None),
            "umount": lambda: libc.umount2(b"/tmp", 2),
            "chroot": lambda: libc.chroot(b"/tmp"),
            "hostname": lambda: libc.sethostname(b"x", 1),
        }
        result = {name: call() for name, call in calls.items()}
        """
    )
    assert set(refused.values()) == {-1}


def test_signals_reach_nobody_else(worker):
    assert (
        worker.run(
            """
        import os
        result = []
        for process in (-1, 3, 100, 4000):
            try:
                os.kill(process, 0)
                result.append(process)
            except ProcessLookupError:
                pass
        """
        )
        == []
    )


def test_no_core_file_is_written(worker):
    assert worker.run("import resource; result = resource.getrlimit(resource.RLIMIT_CORE)") == [
        0,
        0,
    ]


def test_the_devices_of_every_program_work(worker):
    assert worker.run(
        """
        import os
        with open("/dev/null", "wb") as null, open("/dev/zero", "rb") as zero:
            null.write(zero.read(10))
        result = [len(open("/dev/urandom", "rb", buffering=0).read(4)), sorted(os.listdir("/dev"))]
        """
    ) == [
        4,
        ["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"],
    ]


def test_names_resolve_and_times_have_zones(worker):
    assert worker.run(
        """
        import socket, zoneinfo
        result = [socket.gethostname(), socket.gethostbyname("localhost"),
                  str(zoneinfo.ZoneInfo("Europe/Berlin"))]
        """
    ) == ["fn", "127.0.0.1", "Europe/Berlin"]


def test_signal_dispositions_are_those_of_a_fresh_python(worker):
    assert worker.run(
        """
        import signal
        odd = {s.name for s in signal.valid_signals() if isinstance(s, signal.Signals)
               and signal.getsignal(s) not in (signal.SIG_DFL, None)}
        result = [sorted(odd), list(signal.pthread_sigmask(signal.SIG_BLOCK, []))]
        """
    ) == [["SIGINT", "SIGPIPE", "SIGXFSZ"], []]


def test_two_workers_do_not_draw_the_same_random_numbers(zygote):
    source = """
        import os, random, secrets, ssl, uuid
        result = [random.random(), str(uuid.uuid4()), ssl.RAND_bytes(8).hex(), secrets.token_hex(8)]
        """
    workers = [zygote.spawn() for _ in range(3)]
    drawn = [worker.run(source) for worker in workers]
    for kind in zip(*drawn, strict=True):
        assert len(set(kind)) == 3
    for worker in workers:
        zygote.end(worker)


def test_the_end_of_a_worker_is_the_end_of_all_it_started(zygote):
    worker = zygote.spawn()
    worker.run(
        """
        import os, time
        for _ in range(3):  # twice forked, in sessions of their own, deaf to what can be ignored
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    import signal
                    for number in range(1, 32):
                        try: signal.signal(number, signal.SIG_IGN)
                        except (OSError, ValueError): pass
                    time.sleep(1000)
                os._exit(0)
        time.sleep(0.2)
        """
    )
    namespace = _namespace(worker.pid)
    members = [pid for pid in _processes() if _namespace(pid) == namespace]
    assert len(members) >= 4
    handles = [os.pidfd_open(pid) for pid in members]
    exited = zygote.end(worker)
    assert os.WTERMSIG(exited["status"]) == signal.SIGKILL
    assert exited["max_rss_kb"] > 1000
    assert exited["cpu_seconds"] > 0
    for handle in handles:
        assert select.select([handle], [], [], 10)[0]
        os.close(handle)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


IN_A_CONTAINER = """
import ctypes, os, sys
asked, ask = os.pipe()
told, tell = os.pipe()
inner = os.getpid()
if os.fork() == 0:
    os.read(asked, 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{inner}/{name}", "w") as file:
            file.write(f"0 0 {sys.argv[1]}")
    os.write(tell, b"x")
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10020000) == 0  # users, and mounts
os.write(ask, b"x")
os.read(told, 1)
os.wait()
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.root
@pytest.mark.parametrize(("users", "whom"), [(65536, range(57_344, 61_440)), (1, [0])])
def test_root_of_a_container_runs_workers_as_whom_it_may(users, whom):
    """Of many users one that is nobody else; where it knows itself only, an ordinary user."""
    before = (os.path.realpath(sys.executable), "-c", IN_A_CONTAINER, str(users))
    uid = {"uid": 2_000_000_123}
    with code(0) as folder, Zygote(folder, 0, options=uid, before=before) as zygote:
        assert zygote.said["type"] == "ready", zygote.said
        assert zygote.said["level"] == "full", zygote.said
        worker = zygote.spawn()
        assert worker.run("import os; result = os.getuid()") == 993
        told = Path(f"/proc/self/fdinfo/{worker.pidfd}").read_text().split("Pid:")[1].split()[0]
        assert Path(f"/proc/{told}").stat().st_uid in whom
        zygote.end(worker)
