"""`streamfaas demo`: the main job on embedded defaults, in one terminal."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import click

from streamfaas.cli import exits

PHOTOS = 8
PHOTO_SIZE = (1600, 1200)
DEMO_SECONDS = 30.0
"""The demo gives up waiting after this long, and shows what it has."""


@click.command()
@click.option("--keep", is_flag=True, help="Keep running, to drop files of your own into it.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the demo's files go (default: a temporary directory).",
)
def command(*, keep: bool, folder: Path | None) -> None:
    """Run the main job with nothing to set up: no broker, no cloud, no root.

    Drops photos into a directory bucket and simulates a Kafka topic; two Lambda handlers work
    them off in isolated worker processes.
    """
    if importlib.util.find_spec("PIL") is None:
        click.echo(
            "the demo's thumbnail maker needs Pillow: pip install 'streamfaas[demo]'", err=True
        )
        sys.exit(1)
    if sys.prefix == sys.base_prefix:
        click.echo(
            "the demo's handlers get their packages from a virtual environment: install streamfaas "
            "into one (python3 -m venv .venv && .venv/bin/pip install 'streamfaas[demo]')",
            err=True,
        )
        sys.exit(1)
    home = folder.resolve() if folder is not None else None
    if home is not None:
        exits.refuse_root(home)
    try:
        if home is None:
            home = Path(tempfile.mkdtemp(prefix="streamfaas-demo-"))
        config = _lay_out(home)
    except OSError as cause:
        place = cause.filename or home or tempfile.gettempdir()
        exits.end(exits.FAILED, f"cannot write {place}: {cause.strerror}")
    try:
        sys.exit(_run(config, keep=keep))
    finally:
        if folder is None and not keep:
            shutil.rmtree(home, ignore_errors=True)


def _run(config: Path, *, keep: bool) -> int:
    import anyio
    import uvloop

    from streamfaas import __version__
    from streamfaas.daemon.loading import Invalid, load
    from streamfaas.daemon.main import Daemon
    from streamfaas.telemetry.console import Console
    from streamfaas.telemetry.sink import LineSink

    home = config.parent
    environ = {**os.environ, "STREAMFAAS_DEMO_VENV": sys.prefix}
    loaded = load(config, environ)
    if isinstance(loaded, Invalid):
        exits.end(exits.CONFIG, loaded.reason)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    sink = LineSink(sys.stdout.fileno())
    tally = Tally()
    daemon = Daemon(loaded, Console(sink.put, colour=colour), tally, finish=_unsaid)
    for line in (
        f"streamfaas {__version__} demo: two functions, two sources, all of it below {home}",
        "  thumbnails  <- photos dropped into a directory bucket",
        "  totals      <- a simulated Kafka topic `orders` with two partitions",
        "",
    ):
        sink.put(line)

    async def main() -> int:
        status = 1
        async with anyio.create_task_group() as tasks:

            async def serve() -> None:
                nonlocal status
                status = await daemon.main()
                tasks.cancel_scope.cancel()

            tasks.start_soon(serve, name="daemon")
            await daemon.life.ready.wait()
            await anyio.to_thread.run_sync(_drop_photos, home / "photos" / "incoming")
            with anyio.move_on_after(DEMO_SECONDS):
                while not _finished(daemon.view()):  # noqa: ASYNC110 - a look, not a wait
                    await anyio.sleep(0.1)
            for line in tally.table(daemon.view()):
                sink.put(line)
            if keep:
                sink.put(f"drop photos into {home / 'photos' / 'incoming'}; Ctrl-C ends the demo")
            else:
                daemon.stop()
        return status

    try:
        status = uvloop.run(main())
    finally:
        for line in (
            "",
            "next:",
            "  streamfaas new hello",
            "  cd hello && streamfaas run streamfaas.yaml",
        ):
            sink.put(line)
        sink.close()
    return status


def _unsaid(view: dict[str, Any]) -> None:
    """The demo has a closing table of its own."""


def _lay_out(home: Path) -> Path:
    """Copies the handlers and the config to where they can be looked at and changed. Ends the
    command where that would overwrite anything but an earlier demo's own files."""
    source = resources.files("streamfaas.cli") / "demonstration"
    with resources.as_file(source) as folder:
        files = [each for each in folder.rglob("*") if each.suffix in {".py", ".yaml"}]
        for each in files:
            there = home / each.relative_to(folder)
            if os.path.lexists(there) and not _same(there, each):
                exits.end(exits.FAILED, f"{there} is there already: nothing was written")
        for each in files:
            there = home / each.relative_to(folder)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(each, there)
    for name in ("incoming", "thumbs"):
        (home / "photos" / name).mkdir(parents=True, exist_ok=True)
    return home / "streamfaas.yaml"


def _same(there: Path, ours: Path) -> bool:
    return there.is_file() and there.read_bytes() == ours.read_bytes()


def _drop_photos(folder: Path) -> None:
    """Paints photos and puts each into the bucket by a rename, so that none is ever half there."""
    from PIL import Image, ImageDraw, ImageFilter

    chance = random.Random(7)
    places = ("harbour", "meadow", "station", "rooftop", "bridge", "market", "canal", "dunes")
    for number in range(PHOTOS):
        photo = Image.linear_gradient("L").resize(PHOTO_SIZE).convert("RGB")
        draw = ImageDraw.Draw(photo)
        for _ in range(40):
            x, y = chance.randrange(PHOTO_SIZE[0]), chance.randrange(PHOTO_SIZE[1])
            radius = chance.randrange(20, 200)
            colour = tuple(chance.randrange(256) for _ in range(3))
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        name = f"{places[number % len(places)]}-{number}.jpg"
        hidden = folder / f".{name}"
        photo.filter(ImageFilter.GaussianBlur(2)).save(hidden, "JPEG")
        hidden.rename(folder / name)


def _finished(view: dict[str, Any]) -> bool:
    photos = view["triggers"]["thumbnails/photos"]
    orders = view["triggers"]["totals/orders"]
    return photos["records"] >= PHOTOS and bool(orders["lanes"]) and orders["records"] >= 200


@dataclass
class Tally:
    """Listens to invocations: durations by trigger, for the closing table."""

    durations: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, signal: Any) -> None:
        from streamfaas.telemetry.signals import InvocationEnded

        if isinstance(signal, InvocationEnded) and signal.lane is not None:
            self.durations[signal.lane.source].append(signal.outcome.report.duration_seconds)

    def table(self, view: dict[str, Any]) -> list[str]:
        """The closing table: records, batches, errors, p50/p99 and checkpoint of each trigger."""
        rows = [("TRIGGER", "RECORDS", "BATCHES", "ERRORS", "P50", "P99", "CHECKPOINT")]
        for name, trigger in sorted(view["triggers"].items()):
            spent = sorted(self.durations[name])
            marks = ", ".join(f"{lane}@{at}" for lane, at in sorted(trigger["checkpoints"].items()))
            rows.append(
                (
                    name,
                    str(trigger["records"]),
                    str(trigger["batches"]),
                    str(trigger["failures"]),
                    _ms(spent, 0.50),
                    _ms(spent, 0.99),
                    marks if len(marks) <= 40 else f"{len(trigger['checkpoints'])} lanes settled",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        paint: Callable[[tuple[str, ...]], str] = lambda row: "  ".join(  # noqa: E731
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        return ["", *map(paint, rows)]


def _ms(spent: list[float], share: float) -> str:
    if not spent:
        return "-"
    return f"{spent[min(len(spent) - 1, int(len(spent) * share))] * 1000:.1f} ms"
