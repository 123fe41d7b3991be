"""All keys of a configuration, read off the models: for suggestions, `explain` and the manual."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from streamfaas.config.forms import Form
from streamfaas.config.model import Short, Words
from streamfaas.config.spec import ROLES, Config
from streamfaas.config.web import is_secret_header

ANY = "*"

LATER: Mapping[tuple[str, ...], str] = {
    ("listen",): "listeners",
    ("include",): "include",
    ("layers",): "layers",
    ("destinations",): "named destinations",
    ("api",): "the control API",
    ("console",): "the console",
    ("state", "durability"): "durability settings",
    ("defaults", "runtime"): "a default runtime",
    ("functions", ANY, "layers"): "layers",
    ("functions", ANY, "url"): "an address of the function",
    ("functions", ANY, "schedule"): "schedules",
    ("functions", ANY, "snapstart"): "SnapStart",
    ("functions", ANY, "role"): "roles",
    ("functions", ANY, "architecture"): "architectures",
    ("functions", ANY, "mounts"): "mounts",
    ("functions", ANY, "isolation", "profile"): "isolation profiles",
    ("functions", ANY, "triggers", ANY, "schedule"): "schedules",
    ("functions", ANY, "triggers", ANY, "schema_registry"): "schema registries",
    ("functions", ANY, "triggers", ANY, "parallel", "key"): "a key of the order",
}
"""Keys that have a meaning, but not in this version: refused by their own words."""

ELSEWHERE: Mapping[str, str] = {
    "log_format": "logging: {format: …}",
    "log_level": "logging: {level: …}",
    "logging_config": "logging",
    "filters": "filter",
    "filter_criteria": "filter",
    "destinations": "on_failure and on_success",
    "destination_config": "on_failure",
    "parallelization": "parallel: {per_partition: …}",
    "parallelization_factor": "parallel: {per_partition: …}",
    "report_batch_item_failures": "partial_failures",
    "function_response_types": "partial_failures",
    "batch_size": "batch: {size: …}",
    "starting_position": "start",
    "tumbling_window_in_seconds": "tumbling_window",
    "maximum_retry_attempts": "retries: {max: …}",
}
"""Keys as Lambda has them, of triggers, and what they are called here."""

LATER_TYPES: Mapping[str, Mapping[str, str]] = {
    "triggers": {
        "schedule": "the schedule trigger",
        "http": "the http trigger",
        "s3": "the s3 trigger",
    },
    "connections": {
        "s3": "the s3 connection",
        "sqs": "the sqs connection",
        "nats": "the nats connection",
    },
    "destinations": {"eventbridge": "the eventbridge destination"},
}
"""Words for `type` that have a meaning, but not in this version."""

_ONE_RECORD = "each event is of one object: "
NO_USE: Mapping[tuple[str, str], str] = {
    ("object-store", "batch"): _ONE_RECORD + "there is nothing to gather",
    ("object-store", "bisect"): _ONE_RECORD + "there is nothing to halve",
    ("object-store", "partial_failures"): _ONE_RECORD + "no part of it can fail alone",
    ("object-store", "tumbling_window"): _ONE_RECORD + "what comes in a while is counted nowhere",
    ("object-store", "per_partition"): "objects have no partitions",
    ("sqs", "per_partition"): "a queue has no partitions: parallel: 10",
    ("sqs", "per_shard"): "a queue has no shards: parallel: 10",
    ("sqs", "tumbling_window"): "a queue has no order that a state could follow",
    ("sqs", "start"): "a queue has what nobody has deleted yet",
    ("sqs", "bisect"): "what failed together comes again in smaller batches by itself",
    ("kinesis", "per_partition"): "a stream has shards: parallel: {per_shard: …}",
    ("dynamodb", "per_partition"): "a stream has shards: parallel: {per_shard: …}",
    ("kafka", "per_shard"): "a topic has partitions: parallel: {per_partition: …}",
    ("memory", "per_shard"): "a topic has partitions: parallel: {per_partition: …}",
}
"""Kinds of triggers and keys that others have, and why those have no use for them."""

_VIA = " via "
_TRIGGER = ("functions", ANY, "triggers", ANY)


@dataclass(frozen=True, slots=True)
class Key:
    """One key. In `path`, `*` stands for a name that the operator gives; `kind` is the `type` of
    the trigger or destination that the key belongs to; where it comes in several ways, with those
    that have the key (`object-store via sqs|sns-sqs`)."""

    path: tuple[str, ...]
    kind: str
    field: FieldInfo
    form: Form | None

    @property
    def says(self) -> str:
        """What the value has to be."""
        if self.form is not None:
            return self.form.says
        literal = typing.get_args(self.field.annotation)
        if typing.get_origin(self.field.annotation) is typing.Literal:
            return " or ".join(str(word) for word in literal)
        inner = next(_forms(self.field.annotation), None)
        if typing.get_origin(self.field.annotation) is tuple and inner is not None:
            return f"a list: each {inner.says}"
        if section(self.path) == "destinations":
            return f"a mapping, whose type is one of {', '.join(kinds('destinations'))}"
        words = next(
            (each for each in self.field.metadata if isinstance(each, Short | Words)), None
        )
        return words.says if words is not None else "a mapping"

    @property
    def default(self) -> str:
        """The default as it would be written; empty where there is none."""
        if self.field.is_required() or self.field.default_factory is not None:
            return ""
        value = self.field.default
        if value is None or value in ((), "") or isinstance(value, BaseModel):
            return ""
        if isinstance(value, tuple) and self.form is None:
            return f"[{', '.join(map(str, value))}]"
        return self.form.show(value) if self.form else str(value)


@cache
def known() -> tuple[Key, ...]:
    """Every key that is read, in the order of the models."""
    # triggers of all types have the same destinations
    return tuple({(key.path, key.kind): key for key in _of_model(Config, (), "")}.values())


def section(path: Sequence[str | int]) -> str:
    """What stands at a path that holds one of several types: `connections`, `triggers`,
    `destinations`, or nothing."""
    match tuple(path):
        case ("connections", _):
            return "connections"
        case ("functions", _, "triggers", _):
            return "triggers"
        case ("functions", _, "asynchronous", role) | ("functions", _, "triggers", _, role):
            return "destinations" if role in ROLES else ""
        case _:
            return ""


@cache
def kinds(of: str = "triggers") -> tuple[str, ...]:
    """The types of triggers, connections or destinations that there are."""
    return tuple(
        dict.fromkeys(
            key.kind.partition(_VIA)[0]
            for key in known()
            if key.path[-1] == "type" and section(key.path[:-1]) == of
        )
    )


def vias(of: str) -> tuple[str, ...]:
    """The ways in which triggers of a type come; none for most."""
    return tuple(via for kind in _ways(of) for via in kind.partition(_VIA)[2].split("|"))


def kind_of(of: str, via: str) -> str:
    """The kind of the keys of a trigger that comes in one of several ways."""
    return next((kind for kind in _ways(of) if via in kind.partition(_VIA)[2].split("|")), of)


@cache
def _ways(of: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key.kind for key in known() if key.kind.startswith(of + _VIA)))


@cache
def _owners() -> Mapping[str, tuple[str, ...]]:
    """The kinds of triggers that come in one of several ways, by the keys that they have."""
    found: dict[str, list[str]] = {}
    for each in known():
        if _VIA in each.kind and each.path[:-1] == _TRIGGER:
            found.setdefault(each.path[-1], []).append(each.kind)
    return {key: tuple(kinds) for key, kinds in found.items()}


def no_use(kind: str, key: str) -> str:
    """Why a kind of trigger has no use for a key that others have; or nothing."""
    of, _, ours = kind.partition(_VIA)
    if told := NO_USE.get((of, key)):
        return told
    owners = _owners().get(key, ())
    if not ours or not owners or kind in owners:
        return ""
    theirs = ", ".join(owner.partition(_VIA)[2].replace("|", ", ") for owner in owners)
    return f"{key} is for via: {theirs}, and not for {ours.replace('|', ', ')}"


@cache
def secrets() -> frozenset[str]:
    """The last words of the keys whose values are never shown."""
    return frozenset(
        key.path[-1]
        for key in known()
        if SecretStr in typing.get_args(key.field.annotation) or key.field.annotation is SecretStr
    )


def is_secret(path: Sequence[str | int]) -> bool:
    """Whether the value at a path is never shown."""
    return path[-1:] != () and (path[-1] in secrets() or is_secret_header(path))


def siblings(path: Sequence[str | int], kind: str = "") -> tuple[str, ...]:
    """The keys that may stand where the path's last key stands."""
    return _inside(tuple(path[:-1]), kind)


@lru_cache(maxsize=256)  # a file may have thousands of wrong keys at one place
def _inside(path: tuple[str | int, ...], kind: str) -> tuple[str, ...]:
    return tuple(
        key.path[-1]
        for key in known()
        if key.path[-1] != ANY and key.kind in ("", kind) and _fits(key.path[:-1], path)
    )


def below(path: Sequence[str | int], kind: str = "") -> str:
    """Where the path's last key would be known, right inside of one of those that may stand beside
    it: `retries.max_age`; or nothing."""
    for key in _named().get(path[-1], ()):
        if ANY not in key.path[-2:] and key.kind in ("", kind) and _fits(key.path[:-2], path[:-1]):
            return ".".join(key.path[-2:])
    return ""


@cache
def _named() -> Mapping[str | int, list[Key]]:
    found: dict[str | int, list[Key]] = {}
    for key in known():
        found.setdefault(key.path[-1], []).append(key)
    return found


def elsewhere(path: Sequence[str | int]) -> str:
    """What is meant by a word of Lambda's, somewhere in a function; or nothing."""
    word = re.sub("(?<=[a-z])(?=[A-Z])", "_", str(path[-1])).lower()
    return ELSEWHERE.get(word, "") if path[0] == "functions" else ""


def only(path: Sequence[str | int], kind: str = "") -> str:
    """The key of a block that has no other; or nothing."""
    found = {
        key.path[-1] for key in known() if key.kind in ("", kind) and _fits(key.path[:-1], path)
    }
    return found.pop() if len(found) == 1 else ""


def inside(block: Key) -> tuple[str, ...]:
    """The keys right inside of one that holds a block, or a block for each name."""
    depth = len(block.path)
    found = (
        key.path[-1]
        for key in known()
        if key.path[:depth] == block.path
        and len(key.path) - depth == (2 if key.path[depth : depth + 1] == (ANY,) else 1)
    )
    return tuple(dict.fromkeys(found))


def later(path: Sequence[str | int]) -> str:
    """What a key that is not in this version would be; empty for any other."""
    for pattern, what in LATER.items():
        if _fits(pattern, path):
            return what
    return ""


def _fits(pattern: Sequence[str], path: Sequence[str | int]) -> bool:
    return len(pattern) == len(path) and all(
        want in (ANY, part) for want, part in zip(pattern, path, strict=True)
    )


def nearest(word: str, words: Sequence[str]) -> str:
    """The word that was probably meant, or nothing."""
    folded = {known.lower().replace("-", "_"): known for known in words}
    near = get_close_matches(word.lower().replace("-", "_")[:100], list(folded), 1)
    return folded[near[0]] if near else ""


def _of_model(model: type[BaseModel], path: tuple[str, ...], kind: str) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        here = (*path, name)
        form = next((each for each in field.metadata if isinstance(each, Form)), None)
        yield Key(here, kind, field, form)
        for suffix, inner in _models(field.annotation):
            inner_kind = kind
            if section((*here, *suffix)):
                inner_kind = _kind_of_model(inner)
            yield from _of_model(inner, (*here, *suffix), inner_kind)


def _kind_of_model(model: type[BaseModel]) -> str:
    kind, via = (_words_of(model, name) for name in ("type", "via"))
    return str(kind[0]) + (_VIA + "|".join(via) if via else "")


def _words_of(model: type[BaseModel], name: str) -> tuple[str, ...]:
    field = model.model_fields.get(name)
    return () if field is None else typing.get_args(field.annotation)


def _models(annotation: Any) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """The models inside an annotation, each with the path to it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield (), annotation
    elif origin is typing.Annotated:
        yield from _models(arguments[0])
    elif origin in (typing.Union, types.UnionType):
        for each in arguments:
            yield from _models(each)
    elif origin is Mapping:
        for suffix, model in _models(arguments[1]):
            yield (ANY, *suffix), model


def _forms(annotation: Any) -> Iterator[Form]:
    for argument in typing.get_args(annotation):
        if isinstance(argument, Form):
            yield argument
        yield from _forms(argument)
