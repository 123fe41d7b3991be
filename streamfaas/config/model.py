"""What the models of a configuration are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from streamfaas.config import forms

T = TypeVar("T")

Named: TypeAlias = Annotated[
    Mapping[Annotated[str, forms.name("valid")], T], AfterValidator(MappingProxyType)
]


class Model(BaseModel):
    """Frozen, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Words:
    """Words that may stand for a whole block, each for the block that is given for it."""

    blocks: Mapping[str, Mapping[str, Any]]

    @property
    def says(self) -> str:
        return f"{', '.join(self.blocks)}, or a mapping"

    def put(self, value: Any) -> Any:
        """The block that was meant, or what was given in its place."""
        if not isinstance(value, str):
            return value
        block = self.blocks.get(value)
        if block is None:
            forms.fail_word(value, tuple(self.blocks))
        return dict(block)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.put, handler(source))


@dataclass(frozen=True, slots=True)
class Alone:
    """One thing alone may stand for a list of it."""

    def put(self, value: Any) -> Any:
        return value if value is None or isinstance(value, list) else [value]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.put, handler(source))


@dataclass(frozen=True, slots=True)
class Short:
    """One text alone may stand for a block in which it is the value of a key; an empty one, for
    that there is no block."""

    key: str
    says: str

    def put(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return {self.key: value} if value else None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.put, handler(source))


def none() -> Mapping[str, Any]:
    """A mapping with nothing in it, which stays so."""
    return MappingProxyType({})
