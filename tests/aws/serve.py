"""Runs one of the servers on a port of loopback; ends with its standard input, whoever dies."""

import os
import runpy
import sys
import threading


def _wait_for_the_end() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    kind, port, *upstream = sys.argv[1:]
    threading.Thread(target=_wait_for_the_end, daemon=True).start()
    if kind == "moto":
        sys.argv = ["moto_server", "-H", "127.0.0.1", "-p", port]
        runpy.run_module("moto.server", run_name="__main__")
    elif kind == "microburst":
        asked = ["--host", "127.0.0.1", "-p", port, "-u", *upstream, "--no-resign"]
        sys.argv = ["microburst", *asked]
        runpy.run_module("microburst", run_name="__main__")
    else:
        os.environ.update(BIND_HOST="127.0.0.1", GATEWAY_PORT=port, LOG_LEVEL="ERROR")
        sys.argv = ["ministack"]
        runpy.run_module("ministack", run_name="__main__")
