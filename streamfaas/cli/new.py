"""`streamfaas new`."""

from __future__ import annotations

import json
import shlex
from importlib.resources import files
from pathlib import Path

import click

from streamfaas.cli import exits

FILES = {
    "streamfaas.yaml": "streamfaas.yaml",
    "handler.py.txt": "functions/hello/handler.py",
    "kafka.json": "events/kafka.json",
    "test_hello.py.txt": "tests/test_hello.py",
    "gitignore": ".gitignore",
}
"""What is copied, and the name that it gets."""

SCHEMA = "streamfaas.schema.json"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def command(directory: Path) -> None:
    """Write a project that runs as it stands: a function, its test, an event, and a configuration.

    Files that are there already are never overwritten.
    """
    exits.refuse_root(directory)
    there = [name for name in (*FILES.values(), SCHEMA) if (directory / name).exists()]
    if there:
        exits.end(exits.FAILED, f"{directory / there[0]} is there already: nothing was written")
    try:
        _write(directory)
    except OSError as cause:
        exits.end(exits.FAILED, f"cannot write {cause.filename or directory}: {cause.strerror}")
    for name in (*FILES.values(), SCHEMA):
        click.echo(f"  created {directory / name}")
    click.echo(
        "\nnext:\n"
        f"  cd {shlex.quote(str(directory))}\n"
        "  streamfaas run                          # Ctrl-C ends it; go on in another terminal:\n"
        "  streamfaas send hello/orders --sample   # an event, and what becomes of it\n"
        "  streamfaas tap hello --payload          # events as they pass; send another one\n"
        "  streamfaas status                       # edit functions/hello/handler.py meanwhile\n"
        "  python -m unittest discover tests"
    )


def _write(directory: Path) -> None:
    from streamfaas.config.schema import schema

    template = files("streamfaas.cli") / "project"
    for source, name in FILES.items():
        _create(directory / name, template.joinpath(source).read_text(encoding="utf-8"))
    _create(directory / SCHEMA, json.dumps(schema(), indent=2) + "\n")


def _create(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
