"""How a handler's name becomes a callable."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from streamfaas.guest.python.failure import Failure, failure, failure_of

Handler = Callable[[Any, Any], Any]


class NoHandler(Exception):
    """The handler cannot be had; `failure` says why as Lambda does."""

    def __init__(self, described: Failure) -> None:
        super().__init__(described["errorMessage"])
        self.failure = described


def import_handler(name: str, task: str) -> Handler:
    """Imports `module.function`; the module may be written as a path, `folder/module.function`."""
    module_name, dot, function_name = name.rpartition(".")
    if not dot or not module_name or not function_name:
        reason = "not enough values to unpack (expected 2, got 1)"
        raise _no("Runtime.MalformedHandlerName", f"Bad handler '{name}': {reason}")
    dotted = module_name.replace("/", ".")
    top = dotted.partition(".")[0]
    if top in sys.builtin_module_names:
        text = f"Cannot use built-in module {module_name} as a handler module"
        raise _no("Runtime.BuiltInModuleConflict", text)
    _forget_namesake(top, task)
    try:
        module = importlib.import_module(dotted)
    except ImportError as error:
        text = f"Unable to import module '{module_name}': {error}"
        raise _no("Runtime.ImportModuleError", text) from error
    except SyntaxError as error:
        stack = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        text = f"Syntax error in module '{module_name}': {error}"
        raise _no("Runtime.UserCodeSyntaxError", text, stack) from error
    except SystemExit:
        raise
    except BaseException as error:
        raise NoHandler(failure_of(error)) from error
    try:
        handler: Handler = getattr(module, function_name)
    except AttributeError as error:
        text = f"Handler '{function_name}' missing on module '{module_name}'"
        raise _no("Runtime.HandlerNotFound", text) from error
    return handler


def _no(kind: str, message: str, stack: list[str] | None = None) -> NoHandler:
    return NoHandler(failure(kind, message, stack=stack))


def _forget_namesake(top: str, task: str) -> None:
    """A module of the function goes before one of the standard library that was loaded for all
    workers."""
    own = os.path.join(task, top)
    if top in sys.modules and (os.path.isfile(own + ".py") or os.path.isdir(own)):
        del sys.modules[top]
