"""The service in a machine of its own: `cd tests && python -m machine`, as root, on Debian.

Debian's packages and the wheels are fetched once and kept (`--cache`); the machine itself has no
network, and is emulated in software: it takes some minutes, and no KVM.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from machine.image import CACHE, Image, NoMachine
from machine.machine import Machine, Told


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m machine", description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE, help="default: %(default)s")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="streamfaas-machine-") as folder:
        image = Image(Path(folder), asked.cache)
        try:
            image.build()
        except NoMachine as reason:
            print(f"machine: {reason}", file=sys.stderr)
            return 2
        with Machine(image) as machine:
            told = []
            try:
                for each in machine.steps():
                    told.append(each)
                    show(each)
            except (EOFError, TimeoutError) as error:
                print(f"machine: {error}", file=sys.stderr)
                return 1
            off = machine.switched_off()
            failed = [each for each in told if not each.passed]
            print(
                f"{len(told) - len(failed)} of {len(told)} steps passed in {machine.seconds:.0f} s; "
                f"switched off {'in order' if off else 'by force'}"
            )
    return 0 if off and not failed else 1


def show(told: Told) -> None:
    print(f"{'ok    ' if told.passed else 'FAILED'} {told.step:62} {told.seconds:6.1f} s")
    for line in told.lines:
        print(f"         {line}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
