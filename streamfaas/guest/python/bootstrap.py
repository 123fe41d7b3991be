"""What a zygote loads for Python functions: preparations on the host, then life as a worker."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import site
import socket
import sys
import time
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, NoReturn


def _open_room() -> None:
    """Makes the modules beside this file importable under their names: it is loaded by its path
    in a process where the project is not installed. The zygote takes the names away again."""
    for name, places in (
        ("streamfaas", []),
        ("streamfaas.guest", []),
        ("streamfaas.guest.python", [os.path.dirname(os.path.abspath(__file__))]),
    ):
        if name not in sys.modules:
            package = ModuleType(name)
            package.__path__ = places
            sys.modules[name] = package


_open_room()

from streamfaas.guest.python.context import context_class  # noqa: E402  (importable from here on)
from streamfaas.guest.python.failure import encode, failure  # noqa: E402
from streamfaas.guest.python.handler import NoHandler, import_handler  # noqa: E402
from streamfaas.guest.python.invoke import HEADER, INIT_ERROR, Conversation  # noqa: E402
from streamfaas.guest.python.kafka import EventBuilder  # noqa: E402
from streamfaas.guest.python.libraries import load_libraries  # noqa: E402
from streamfaas.guest.python.log_format import log_format  # noqa: E402
from streamfaas.guest.python.marshalling import make_dumps, make_loads, make_measure  # noqa: E402
from streamfaas.guest.python.output import Output  # noqa: E402

# what nearly every handler imports, and what it draws in; shared by all workers of the function.
# ssl is not among them: OpenSSL knows a fork by the process id, and workers all have number one
_PRELOADED = ("base64", "datetime", "hashlib", "json", "logging", "random", "re", "typing", "uuid")
_COLLECTIONS = (50_000, 20, 100)


class Guest:
    """Made on the host, furnished in the function's root, and alive in each of its workers."""

    def __init__(self, packet: dict[str, Any]) -> None:
        """Loads what workers share. `ImportError` where a library is missing."""
        self._packet = packet
        libraries = load_libraries(packet["libraries"])
        for name in _PRELOADED:
            importlib.import_module(name)
        self._loads = make_loads(libraries.orjson)
        self._dumps = make_dumps(libraries.orjson)
        measure = make_measure(libraries.orjson)
        self._builder = EventBuilder(libraries, measure, packet["event_bytes_max"])

    def furnish(self) -> None:
        """The interpreter as a handler expects it: its own code first, then its packages, then
        the standard library. Lines of .pth files are not run: packages lie where they lie."""
        packet = self._packet
        env = packet["env"]
        named = env.get("AWS_LAMBDA_LOG_FORMAT", ""), env.get("AWS_LAMBDA_LOG_LEVEL", "")
        self._output = Output(log_format(*named))
        os.environ.setdefault("_X_AMZN_TRACE_ID", "")
        time.tzset()
        extra = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path]
        packages, prefix = packet["packages"], sys.base_prefix
        sys.path[:0] = [packet["task"], *extra, *([packages] if packages else [])]
        if packages:
            prefix = os.path.dirname(os.path.dirname(os.path.dirname(packages)))
            sys.prefix = sys.exec_prefix = prefix
        sys.executable = f"{prefix}/bin/python{sys.version_info[0]}"
        sys.argv[:] = [packet["handler"]]
        sys.orig_argv[:] = [sys.executable]
        sys.dont_write_bytecode = True
        site.setquit()
        site.sethelper()
        PathFinder.find_spec("_streamfaas_no_such_module")  # so that every directory is listed

    def live(self, channel: int, answers: int, log_stream: str) -> NoReturn:
        """A worker's life, from its jail to its end."""
        began = time.perf_counter_ns()
        gc.enable()
        gc.set_threshold(*_COLLECTIONS)
        os.environ["AWS_LAMBDA_LOG_STREAM_NAME"] = log_stream
        packet, output, status = self._packet, self._output, 1
        conversation = Conversation(
            socket.socket(fileno=channel),
            answers,
            output,
            loads=self._loads,
            dumps=self._dumps,
            builder=self._builder,
            answer_bytes_max=packet["answer_bytes_max"],
        )
        try:
            handler = import_handler(packet["handler"], packet["task"])
            conversation.say_ready(time.perf_counter_ns() - began)
            conversation.serve(handler, context_class(packet, log_stream))
            status = 0
        except NoHandler as missing:
            conversation.say_no(missing.failure)
        except SystemExit as leaving:
            status = _exit_status(leaving, output)
        except OSError:
            pass  # the daemon is gone, or a forked child of the handler came here
        finally:
            output.flush()
            os._exit(status)

    def tell_failure(self, answers: int, message: str) -> None:
        """Says why there is no worker."""
        body = encode(failure("Sandbox.Failure", message), self._dumps)
        os.write(answers, HEADER.pack(len(body), INIT_ERROR, 0, 0, 0) + body)


def _exit_status(leaving: SystemExit, output: Output) -> int:
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    if leaving.code is None:
        return 0
    with contextlib.suppress(OSError, ValueError):
        output.stderr.write(f"{leaving.code}\n")
    return 1
