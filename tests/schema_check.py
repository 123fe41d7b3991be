"""As much of JSON Schema draft-07 as our own schema uses, to check examples against it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

KNOWN = {
    "$schema", "title", "description", "default", "examples", "writeOnly", "type", "const", "enum", "pattern", "format",
    "minLength", "maxLength", "minimum", "maximum", "anyOf", "oneOf", "items", "minItems", "maxItems", "properties",
    "required", "additionalProperties", "propertyNames",
}  # fmt: skip
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def errors(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    kind = schema.get("type")
    if kind and (
        not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")
    ):
        yield f"{path}: {value!r} is no {kind}"
        return
    if "const" in schema and (value != schema["const"] or isinstance(value, bool)):
        yield f"{path}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is not one of {schema['enum']}"
    if isinstance(value, str):
        yield from _text(schema, value, path)
    elif isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get(
        "maximum", value
    ):
        yield f"{path}: {value} is out of range"
    elif isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{path}: {len(value)} items"
        for at, each in enumerate(value):
            yield from errors(schema.get("items", {}), each, f"{path}.{at}")
    elif isinstance(value, dict):
        yield from _object(schema, value, path)
    for word, wanted in (("anyOf", None), ("oneOf", 1)):
        if word in schema:
            fits = sum(not list(errors(each, value)) for each in schema[word])
            if not fits or (wanted and fits != wanted):
                yield f"{path}: {fits} of {len(schema[word])} forms fit {value!r}"


def _text(schema: dict[str, Any], value: str, path: str) -> Iterator[str]:
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} does not match {schema['pattern']}"
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{path}: {len(value)} characters"


def _object(schema: dict[str, Any], value: dict[str, Any], path: str) -> Iterator[str]:
    known = schema.get("properties", {})
    yield from (f"{path}: no {name}" for name in schema.get("required", ()) if name not in value)
    for name, each in value.items():
        yield from errors(schema.get("propertyNames", {}), name, f"{path}.{name}")
        if name in known:
            yield from errors(known[name], each, f"{path}.{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{path}: unknown {name}"
        elif isinstance(schema.get("additionalProperties"), dict):
            yield from errors(schema["additionalProperties"], each, f"{path}.{name}")
