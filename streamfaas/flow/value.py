"""Values that are made for every invocation: frozen as the type checker sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def value(cls: type[_T]) -> type[_T]:
    """A slotted dataclass that nobody may change. `dataclass(frozen=True)` says so at run time
    too, and then takes four times as long to make one: with what an invocation needs of them,
    more than the pool itself takes to hand it over."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
