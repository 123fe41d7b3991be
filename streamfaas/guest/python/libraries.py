"""Private copies of the compiled libraries, loaded by path: handlers neither see nor meet them."""

from __future__ import annotations

import binascii
import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

from streamfaas.guest.python.compression import Codecs

_RECORDS = "aiokafka.record._crecords"
_NEEDED = ("aiokafka.cutil", "aiokafka.default_records", "aiokafka.legacy_records", "cramjam")


@dataclass(frozen=True, slots=True)
class Libraries:
    """What was loaded. `orjson` is None where it is missing; the rest has a substitute or must
    be there."""

    orjson: ModuleType | None
    encode_base64: Callable[[bytes], str]
    default_record_batch: Any
    legacy_record_batch: Any
    codecs: Codecs


def load_libraries(paths: Mapping[str, str]) -> Libraries:
    """Loads what `paths` names; `ImportError` where the Kafka decoder is not complete."""
    for name in _NEEDED:
        if name not in paths:
            raise ImportError(f"the compiled library {name} was not found")
    codecs = Codecs(_load("cramjam", paths["cramjam"]))
    default, legacy = _load_decoder(paths, codecs)
    encode_base64 = _encode_base64
    if "pybase64" in paths:
        encode_base64 = _load("_pybase64", paths["pybase64"]).b64encode_as_string
    return Libraries(
        orjson=_load("orjson", paths["orjson"]) if "orjson" in paths else None,
        encode_base64=encode_base64,
        default_record_batch=default.DefaultRecordBatch,
        legacy_record_batch=legacy.LegacyRecordBatch,
        codecs=codecs,
    )


def _encode_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _load(name: str, path: str) -> ModuleType:
    """Loads an extension under a name of ours. The name's last part must be its own: it names
    the function that makes the module."""
    loader = ExtensionFileLoader(f"_guest.{name}", path)
    module = module_from_spec(ModuleSpec(loader.name, loader, origin=path))
    loader.exec_module(module)
    return module


def _load_decoder(paths: Mapping[str, str], codecs: Codecs) -> tuple[ModuleType, ModuleType]:
    """Loads aiokafka's record decoder without aiokafka, whose package would bring 181 modules.

    The extensions look for each other, for two error classes and for the codecs under their full
    names while they are made; so these names exist for that long, and mean ours. The codecs that
    they take hold of are bounded.
    """
    stand_ins = {
        name: ModuleType(name)
        for name in ("aiokafka", "aiokafka.record", _RECORDS, "aiokafka.codec", "aiokafka.errors")
    }
    for package in ("aiokafka", "aiokafka.record", _RECORDS):
        stand_ins[package].__path__ = []
    stand_ins["aiokafka"].__dict__["codec"] = stand_ins["aiokafka.codec"]
    stand_ins["aiokafka.codec"].__dict__.update(codecs.named())
    for error in ("CorruptRecordException", "UnsupportedCodecError"):
        stand_ins["aiokafka.errors"].__dict__[error] = type(error, (ValueError,), {})
    with _others_away("aiokafka"):
        sys.modules.update(stand_ins)
        made = {}
        for name in ("cutil", "default_records", "legacy_records"):
            with _own_copy(paths[f"aiokafka.{name}"]) as path:
                loader = ExtensionFileLoader(f"{_RECORDS}.{name}", path)
                module = module_from_spec(ModuleSpec(loader.name, loader, origin=path))
                sys.modules[loader.name] = made[name] = module
                loader.exec_module(module)
    return made["default_records"], made["legacy_records"]


@contextlib.contextmanager
def _others_away(package: str) -> Iterator[None]:
    """The package is not there meanwhile, and after that as it was: where it is in use already,
    a second set of its modules would have other classes of the same names."""
    theirs = {name: sys.modules.pop(name) for name in _modules_of(package)}
    try:
        yield
    finally:
        for name in _modules_of(package):
            del sys.modules[name]
        sys.modules.update(theirs)


def _modules_of(package: str) -> list[str]:
    return [name for name in sys.modules if name == package or name.startswith(f"{package}.")]


_copies = itertools.count()


@contextlib.contextmanager
def _own_copy(path: str) -> Iterator[str]:
    """A copy of the file under another inode and a name not used before. The dynamic loader
    knows libraries by both, and this decoder can be made only once in each: a handler's own may
    be the same file."""
    with open(path, "rb") as file:
        data = file.read()
    copy = os.memfd_create("decoder")
    try:
        with open(copy, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{'./' * next(_copies)}{copy}"
    finally:
        os.close(copy)
