"""Whether systemd starts the daemon, by a unit that still fits its configuration."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from streamfaas.daemon.doctor import Finding, ok, warn

SECONDS = 20.0
_BOOTED = Path("/run/systemd/system")


def service(config: Path, folders: Mapping[Path, tuple[str, ...]], origin: str) -> list[Finding]:
    """Blocks. Units that we wrote are looked for in the folders, each with the options that write
    one there; what would be written now is compared with them."""
    found = [
        _compared(unit, options, config)
        for folder, options in folders.items()
        for unit in _units(folder, origin, config)
    ]
    if found:
        return found
    if not _BOOTED.is_dir():
        return [
            ok(
                "service",
                "this machine was not booted by systemd: something else starts the daemon",
            )
        ]
    remedy = f"sudo streamfaas install-service --config {config}"
    return [warn("service", f"no systemd unit runs {config}", remedy, "SF3030")]


def _units(folder: Path, origin: str, config: Path) -> Iterator[Path]:
    for unit in sorted(folder.glob("*.service")):
        try:
            text = unit.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if text.startswith(f"# {origin}\n") and f" run {config}\n" in text:
            yield unit


def _compared(unit: Path, options: tuple[str, ...], config: Path) -> Finding:
    text = unit.read_text(encoding="utf-8")
    user = re.search(r"^User=(.+)$", text, re.MULTILINE)
    more = (*options, *(("--run-as", user[1]) if user else ()), "--name", unit.stem)
    command = ["install-service", "--config", str(config), *more]
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "streamfaas", *command, "--dry-run"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    shown = f"streamfaas {' '.join(command)}"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it failed"]
        why = next((line for line in lines if ": error " in line), lines[-1])
        remedy = "run doctor as root"
        return warn("service", f"{unit} cannot be compared: {why}", remedy, "SF3030")
    if done.stdout != text:
        told = f"{unit} is not what would be written now"
        return warn("service", told, f"{shown}, then systemctl daemon-reload", "SF3031")
    return ok("service", f"{unit} fits the configuration")
