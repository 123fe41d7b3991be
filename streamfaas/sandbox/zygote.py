"""The program from which the workers of one function are forked: `python -I -S zygote.py FD`."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any, NoReturn


def _open_room() -> None:
    """Makes the modules beside this file importable under their names: it is run by its path,
    without the site's packages, and nothing else of the project may come along."""
    for name, places in (
        ("streamfaas", []),
        ("streamfaas.sandbox", [os.path.dirname(os.path.abspath(__file__))]),
    ):
        package = ModuleType(name)
        package.__path__ = places
        sys.modules[name] = package


if __name__ == "__main__":
    _open_room()

from streamfaas.sandbox import home, kernel, root  # noqa: E402  (importable from here on)
from streamfaas.sandbox.controls import Controls, Refused  # noqa: E402
from streamfaas.sandbox.jail import Jail  # noqa: E402
from streamfaas.sandbox.nursery import PACKET_BYTES_MAX, Guest, Nursery  # noqa: E402
from streamfaas.sandbox.spec import Spec, read_spec  # noqa: E402

EXIT_REFUSED = 3
SIGNALLED = 128
"""Above it, as in a shell: the signal that ended the process within."""

_KEPT_BLOCK_BYTES = 16 * 1024 * 1024


def main() -> NoReturn:
    """Prepares on the host, leaves it, and splits off the process that forks workers, since only
    a child can be the first of a pid namespace. The daemon knows this one, which waits."""
    control = _begin(int(sys.argv[1]))
    packet = json.loads(control.recv(PACKET_BYTES_MAX))
    try:
        spec = read_spec(packet)
        controls = Controls(enforce=spec.enforce)
        guest = _bring_guest(spec, packet)
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        trees = home.leave_host(spec, controls)
        kernel.die_with_parent(signal.SIGKILL)  # a change of user takes the first request back
        inner = os.fork()
        if inner == 0:
            kernel.die_with_parent(signal.SIGKILL)
            home.settle(spec, trees, controls)
            _serve(control, packet, spec, controls, guest, proc)
    except Refused as refused:
        control.send(json.dumps(refused.packet()).encode())
        os._exit(EXIT_REFUSED)
    control.close()
    status = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    os._exit(status if status >= 0 else SIGNALLED - status)


def _begin(control: int) -> socket.socket:
    kernel.close_range(3, control - 1)
    kernel.close_range(control + 1)
    os.set_inheritable(control, False)
    os.setsid()  # a terminal's interrupt is for the daemon, which then ends us in order
    os.umask(0o022)
    _heed_signals()
    kernel.die_with_parent(signal.SIGKILL)  # one that died before closed the control socket
    kernel.keep_memory(_KEPT_BLOCK_BYTES)
    return socket.socket(fileno=control)


def _heed_signals() -> None:
    """Those that the daemon was started without, by `nohup` or behind a shell's `&`, are not
    ignored in a worker: but for two, which Python ignores itself."""
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)


def _bring_guest(spec: Spec, packet: dict[str, Any]) -> Guest:
    """Loads what runs in a worker, from outside the root that it will see."""
    module = ModuleType("_guest")
    module.__file__ = spec.entry
    SourceFileLoader("_guest", spec.entry).exec_module(module)
    try:
        guest: Guest = module.Guest(packet)
    except ImportError as error:
        raise Refused("libraries", str(error)) from error
    if len(os.listdir("/proc/self/task")) != 1:
        raise Refused("libraries", "one of them started a thread, which a fork would lose")
    return guest


def _serve(
    control: socket.socket,
    packet: dict[str, Any],
    spec: Spec,
    controls: Controls,
    guest: Guest,
    proc: int,
) -> NoReturn:
    has_root = controls.has("filesystem")
    packet["task"] = task = root.TASK if has_root else spec.code
    packet["packages"] = root.packages(spec, has_root=has_root)
    jail = Jail(spec, controls, proc=proc, task=task)
    nursery = Nursery(control, jail, controls, guest)
    nursery.probe()
    os.environ.clear()
    os.environ.update(packet["env"])
    guest.furnish()
    kernel.name_process(spec.function)
    for name in ("streamfaas", *(each for each in sys.modules if each.startswith("streamfaas."))):
        sys.modules.pop(name, None)  # a handler finds nothing of ours
    sys.modules["__main__"] = ModuleType("__main__")
    gc.collect()
    gc.freeze()  # no collection in a worker touches, and so copies, what is shared
    control.send(json.dumps(controls.packet()).encode())
    nursery.serve()
    nursery.end_all()
    os._exit(0)


if __name__ == "__main__":
    main()
