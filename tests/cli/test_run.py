"""`streamfaas run`: what comes before there is a daemon."""

import subprocess
import sys

from streamfaas.cli import exits

HASTY = """
import os, signal, sys

class Hasty:
    begun = 0

    def find_spec(self, name, path=None, target=None):
        if name == "streamfaas.daemon.main":
            self.begun = 1
        if self.begun:
            self.begun += 1
            os.kill(os.getpid(), signal.SIGHUP)

hasty = Hasty()
sys.meta_path.insert(0, hasty)
from streamfaas.cli.main import main
try:
    main(["run", sys.argv[1]])
finally:
    print(hasty.begun > 20)
"""


def test_to_be_told_to_reload_before_there_is_a_daemon_ends_nothing(tmp_path):
    """At each module that it imports."""
    command = [sys.executable, "-c", HASTY, str(tmp_path / "missing.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (exits.CONFIG, "True\n"), done.stderr
