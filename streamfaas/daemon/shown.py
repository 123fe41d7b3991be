"""What the daemon shows of itself to people: all on one screen, and one trigger in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamfaas.api.server import Request, Response
from streamfaas.config.object_stores import DirectoryTrigger, ObjectStoreTrigger
from streamfaas.config.spec import ASYNCHRONOUS, Function
from streamfaas.config.streams import DynamoDbTrigger, KinesisTrigger
from streamfaas.config.triggers import (
    AnyTrigger,
    KafkaTrigger,
    MemoryTrigger,
    SqsTrigger,
)
from streamfaas.daemon.steering import full_name

if TYPE_CHECKING:
    from streamfaas.daemon.main import Daemon


class Shown:
    """Routes: `GET /status`, `GET /triggers/<function>/<trigger>`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._lately = daemon.observers.lately

    def handle(self, request: Request) -> Response:
        match request.method, request.path.split("/")[1:]:
            case "GET", ["status"]:
                return Response.json(200, self.status())
            case "GET", ["triggers", function, trigger]:
                found = self._trigger(full_name(function, trigger))
                if found is None:
                    names = ", ".join(self._daemon.mappings) or "none"
                    told = f"there is no trigger {function}/{trigger}; there are {names}"
                    return Response.json(404, {"error": told})
                return Response.json(200, found)
            case _:
                return Response.json(405, {"error": f"{request.method} is not for {request.path}"})

    def status(self) -> dict[str, Any]:
        """The view, with what is only looked at by people: how it has gone lately."""
        view = self._daemon.view()
        functions = self._daemon.plan.config.functions
        for name, function in view["functions"].items():
            spec = functions.get(name)
            function["max"] = None if spec is None else spec.concurrency.max
            function["recent"] = self._lately.function(name)
        for name, trigger in view["triggers"].items():
            self._complete(name, trigger)
        return {**view, "cpu": self._lately.cpu}

    def _complete(self, name: str, trigger: dict[str, Any]) -> None:
        function, _, own = name.partition("/")
        spec = self._daemon.plan.config.functions.get(function)
        mapping = self._daemon.mappings.get(name)
        trigger["reads"] = _reads(spec, own)
        trigger["recent"] = self._lately.trigger(name)
        trigger["on_failure"] = None if mapping is None else mapping.policy.set_aside.name
        for lane in trigger["lanes"]:
            if not lane["by_key"]:
                lane.update(self._lately.lane(name, lane["name"], lane["position"], lane["lag"]))

    def _trigger(self, name: str) -> dict[str, Any] | None:
        mapping = self._daemon.mappings.get(name)
        trigger = self._daemon.view()["triggers"].get(name)
        if mapping is None or trigger is None:
            return None
        self._complete(name, trigger)
        return {
            "name": name,
            **trigger,
            "details": mapping.details(),
            "config": self._config(name),
            "errors": self._lately.errors(name),
        }

    def _config(self, name: str) -> Any:
        """As it would be written, without secrets."""
        function, _, own = name.partition("/")
        written = self._daemon.plan.config.masked()["functions"].get(function, {})
        return written.get(own) if own == ASYNCHRONOUS else written.get("triggers", {}).get(own)


def _reads(function: Function | None, own: str) -> str:
    """What a trigger reads, in a word or two."""
    trigger: AnyTrigger | None = None if function is None else function.triggers.get(own)
    match trigger:
        case KafkaTrigger():
            return ", ".join(trigger.topics) or f"/{trigger.pattern}/"
        case DirectoryTrigger():
            return f"{trigger.bucket}/{trigger.prefix}".rstrip("/")
        case ObjectStoreTrigger():
            return ", ".join(f"{each}/{trigger.prefix}".rstrip("/") for each in trigger.bucket)
        case MemoryTrigger():
            return trigger.topic
        case KinesisTrigger():
            return trigger.stream
        case SqsTrigger():
            return trigger.queue.replace(":", "/").rpartition("/")[2]
        case DynamoDbTrigger():
            return trigger.place
        case None:
            return ""
