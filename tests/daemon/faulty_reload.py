"""A daemon, one step of whose first reload fails; which, `FAIL_AT` says. Run as `run CONFIG`."""

import asyncio
import os
import sys
from pathlib import Path

from streamfaas.daemon.loading import load
from streamfaas.daemon.main import Daemon
from streamfaas.flow.errors import StoreError
from streamfaas.telemetry.console import Console

if __name__ == "__main__":
    failing = {os.environ["FAIL_AT"]}

    def reached(step):
        if step in failing:
            failing.discard(step)
            raise StoreError("as the test wants it")

    def tell(line):
        print(line, flush=True)

    loaded = load(Path(sys.argv[2]), os.environ)
    daemon = Daemon(loaded, Console(tell), finish=lambda _view: None, reached=reached)
    sys.exit(asyncio.run(daemon.main()))
