from __future__ import annotations

import ast
import functools
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from parts import CHECKOUT

PACKAGE = CHECKOUT / "streamfaas"
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
CONTRACTS = {c["id"]: c["name"] for c in PROJECT["tool"]["importlinter"]["contracts"]}

LINT_IMPORTS = "from importlinter.cli import lint_imports_command as main; main()"

PLANTS = [
    ("river", "flow", "streamfaas.telemetry.signals"),
    ("river", "config", "streamfaas.wire"),
    ("river", "wire", "streamfaas.store"),
    ("river", "functions", "streamfaas.sources"),
    ("river", "sources", "streamfaas.engine"),
    ("river", "engine", "streamfaas.api"),
    ("river", "api", "streamfaas.daemon"),
    ("river", "daemon", "streamfaas.cli"),
    ("river", "workers", "streamfaas.destinations"),
    ("river", "store", "streamfaas.functions"),
    ("flow", "flow", "asyncio"),
    ("flow", "flow", "time"),
    ("flow", "flow", "orjson"),
    ("flow", "flow", "pydantic"),
    ("guest", "guest.python", "streamfaas.flow.record"),
    ("guest", "guest.python", "aiokafka"),
    ("sandbox", "sandbox", "streamfaas.functions"),
    ("sandbox", "sandbox", "orjson"),
    ("aiokafka", "engine", "aiokafka"),
    ("aiokafka", "wire", "aiokafka.errors"),
    ("aiobotocore", "sources", "aiobotocore.session"),
    ("aiobotocore", "engine", "botocore"),
    ("sqlite3", "engine", "sqlite3"),
    ("yaml", "daemon", "yaml"),
]
"""The contract that is broken, the room that breaks it, and what it imports."""

STANDARD_IN_FLOW = {
    "__future__", "abc", "bisect", "collections", "dataclasses", "decimal", "enum", "functools",
    "heapq", "ipaddress", "itertools", "json", "math", "operator", "re", "types", "typing",
    "zlib",
}  # fmt: skip
"""What flow may have of the standard library: nothing with a clock, a file or a random number."""

USERS = {
    "aiobotocore": {"wire"},
    "aiohttp": {"wire"},
    "aiokafka": {"sources", "destinations", "wire"},
    "botocore": {"wire"},
    "click": {"cli"},
    "h11": {"api", "cli", "wire"},
    "google": {"telemetry"},
    "opentelemetry": {"telemetry"},
    "requests": {"telemetry"},
    "rich": {"cli", "telemetry"},
    "sqlite3": {"store"},
    "uvloop": {"daemon", "cli", "testing"},
    "yaml": {"config", "cli"},
}
"""The rooms that may know a library. Kept to one or two, so that it can be exchanged."""


IMPORTED_AS = {
    "opentelemetry_sdk": "opentelemetry",
    "pyyaml": "yaml",
    "pillow": "PIL",
    "protobuf": "google",
}
IMPORTED_AS["pydantic"] = "pydantic_core"  # its other half, of which it wants an exact version


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT_IMPORTS, "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """The full names that a file imports; relative ones start with a dot."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return frozenset(found)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said about each contract, with every violation planted at once."""
    root = tmp_path_factory.mktemp("planted")
    shutil.copytree(PACKAGE, root / "streamfaas", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", root)
    for number, (_, room, imported) in enumerate(PLANTS):
        folder = root / "streamfaas" / room.replace(".", "/")
        (folder / f"planted_{number}.py").write_text(f"import {imported}\n")
    for kind in ("sources", "destinations", "runtimes"):
        (root / "streamfaas" / kind / "planted_one.py").write_text("")
        two = f"from streamfaas.{kind} import planted_one\n"
        (root / "streamfaas" / kind / "planted_two.py").write_text(two)
    (root / "streamfaas" / "planted_room.py").write_text("")
    done = lint(root)
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stdout.partition("Broken contracts")[2]
    places = sorted((said.find(f"\n{name}\n"), id_) for id_, name in CONTRACTS.items())
    ends = [start for start, _ in places[1:]] + [len(said)]
    return {id_: said[start:end] for (start, id_), end in zip(places, ends, strict=True)}


@pytest.mark.slow
def test_the_contracts_hold():
    done = lint(CHECKOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("contract", "room", "imported"), PLANTS)
def test_a_planted_violation_is_found(planted, contract, room, imported):
    number = PLANTS.index((contract, room, imported))
    assert f"streamfaas.{room}.planted_{number} -> " in planted[contract]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sources", "destinations", "runtimes"])
def test_a_kind_that_knows_another_is_found(planted, kind):
    assert f"streamfaas.{kind}.planted_two -> streamfaas.{kind}.planted_one" in planted["kinds"]


@pytest.mark.slow
def test_a_room_without_a_layer_is_found(planted):
    assert "planted_room" in planted["river"]


@pytest.mark.slow
def test_every_contract_has_been_broken_on_purpose(planted):
    assert CONTRACTS.keys() == {contract for contract, *_ in PLANTS} | {"kinds"}


def test_flow_imports_only_the_standard_modules_that_are_pure():
    for path in (PACKAGE / "flow").glob("**/*.py"):
        for name in imports(path):
            top = name.partition(".")[0]
            assert top in STANDARD_IN_FLOW or name.startswith("streamfaas.flow"), (path, name)


@pytest.mark.parametrize("room", ["guest", "sandbox"])
def test_what_runs_beside_a_handler_imports_nothing_of_ours(room):
    for path in (PACKAGE / room).glob("**/*.py"):
        for name in imports(path):
            inside = name.startswith((".", f"streamfaas.{room}"))
            assert inside or not name.startswith("streamfaas"), (path, name)


def test_the_sandbox_imports_only_the_standard_library():
    for path in (PACKAGE / "sandbox").glob("**/*.py"):
        for name in imports(path):
            top = name.partition(".")[0]
            assert top in {"", "streamfaas"} | sys.stdlib_module_names, (path, name)


@pytest.mark.parametrize("library", USERS)
def test_a_library_has_few_users(library):
    for path in PACKAGE.glob("**/*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        if any(name.partition(".")[0] == library for name in imports(path)):
            assert room in USERS[library], path


@pytest.mark.parametrize("library", ["google", "opentelemetry", "requests"])
def test_what_a_daemon_that_sends_nothing_must_not_pay_for_is_known_in_one_place(library):
    for path in PACKAGE.glob("**/*.py"):
        if any(name.partition(".")[0] == library for name in imports(path)):
            assert path.parent == PACKAGE / "telemetry" / "otlp", path


def test_every_library_that_is_imported_is_declared():
    project = PROJECT["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["demo"]
    declared = {re.split(r"[<>=\[]", name)[0].replace("-", "_") for name in wanted}
    declared |= {IMPORTED_AS[name] for name in declared & IMPORTED_AS.keys()}
    handlers = PACKAGE / "cli" / "demonstration"  # functions, with packages of their own
    for path in set(PACKAGE.glob("**/*.py")) - set(handlers.glob("**/*.py")):
        for name in imports(path):
            top = name.partition(".")[0]
            ours = top in {"", "streamfaas"} | sys.stdlib_module_names
            beside = (PACKAGE / "guest" in path.parents) and (path.parent / f"{top}.py").is_file()
            assert ours or beside or top in declared, (path, name)
