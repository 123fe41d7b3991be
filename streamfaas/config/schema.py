"""The JSON schema of a configuration (draft-07, for editors), generated from the models."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from streamfaas.config.forms import INTERPOLATED, Form
from streamfaas.config.model import Alone, Short, Words
from streamfaas.config.spec import Config

DIALECT = "http://json-schema.org/draft-07/schema#"


def schema() -> dict[str, Any]:
    """The schema of a whole file."""
    return {"$schema": DIALECT, "title": "streamfaas configuration", **_of_model(Config)}


def _of_model(model: type[BaseModel]) -> dict[str, Any]:
    fields = model.model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    return {
        "type": "object",
        "description": (model.__doc__ or "").replace("\n    ", " "),
        "properties": {name: _of_field(field) for name, field in fields.items()},
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _of_field(field: FieldInfo) -> dict[str, Any]:
    found = _of_annotation(field.annotation, field.metadata)
    found["description"] = field.description or found.get("description", "")
    default = _default(field)
    if default is not None:
        found["default"] = default
    if field.examples:
        found["examples"] = field.examples
    return found


def _of_annotation(annotation: Any, metadata: Iterable[Any]) -> dict[str, Any]:
    metadata = tuple(metadata)
    for each in metadata:
        if isinstance(each, Form):
            return dict(each.schema)
        if isinstance(each, Words | Short | Alone):
            rest = [it for it in metadata if it is not each]
            return {"anyOf": _either(each, _of_annotation(annotation, rest))}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _of_annotation(arguments[0], arguments[1:])
    if origin is typing.Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _of_annotation(arguments[0], ()), **_lengths(metadata)}
    if origin is Mapping:
        return {
            "type": "object",
            "propertyNames": _of_name(arguments[0]),
            "additionalProperties": _of_annotation(arguments[1], ()),
        }
    if origin in (typing.Union, types.UnionType):
        found = [_of_annotation(each, ()) for each in arguments if each is not type(None)]
        models = [each for some in found for each in some.get("oneOf", [some])]
        return models[0] if len(models) == 1 else {"oneOf": models}
    return _of_model(annotation)


def _either(short: Words | Short | Alone, block: dict[str, Any]) -> list[dict[str, Any]]:
    """What may be written, where something shorter may stand for the whole."""
    match short:
        case Words(blocks):
            return [{"type": "string", "enum": list(blocks)}, dict(INTERPOLATED), block]
        case Short(key):
            return [*block["properties"][key]["anyOf"], block]
        case Alone():
            return [block, dict(block["items"])]


def _of_name(annotation: Any) -> dict[str, Any]:
    """A key: as a value of the same form, but nothing is put into keys."""
    found = _of_annotation(annotation, ())
    return dict(found["anyOf"][0]) if "anyOf" in found else found


def _lengths(metadata: Iterable[Any]) -> dict[str, int]:
    """The bounds of a list."""
    found = {}
    for each in metadata:
        for ours, theirs in (("min_length", "minItems"), ("max_length", "maxItems")):
            bound = getattr(each, ours, None)
            if bound is not None:
                found[theirs] = bound
    return found


def _default(field: FieldInfo) -> Any:
    """The default as it would be written in a file."""
    value = field.default
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel):
        return None
    form = next((each for each in field.metadata if isinstance(each, Form)), None)
    if isinstance(value, bool | int | float) and form is not None and not form.has_unit:
        return value
    if isinstance(value, tuple) and form is None:
        return list(value) or None
    return (form.show(value) if form is not None else value) or None
