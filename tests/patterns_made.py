"""Patterns and events, made of bytes that a test draws."""

from __future__ import annotations

from streamfaas.flow import json_text

FEW = json_text.read("""["a", "ab", 1, null]""")
SOME = json_text.read("""["a", 1, {"exists": true}, {"exists": false}, {"anything-but": "a"}]""")
NAMES = ["a", "b", "c", "b.c", "a.b"]


class Choices:
    """Patterns and events, each made of bytes: much faster than drawing them part by part."""

    def __init__(self, data):
        self.bytes = iter(data)

    def among(self, options):
        return options[next(self.bytes, 0) % len(options)]

    def pattern(self, depth=3):
        names = [self.among(NAMES) for _ in range(self.among([1, 2, 3]))]
        pattern = {name: self.field(depth - 1) for name in names}
        if depth and self.among([0, 0, 0, 1]):
            pattern["$or"] = [self.pattern(depth - 1), self.pattern(depth - 1)]
        return pattern

    def field(self, depth):
        if depth and self.among([0, 1]):
            return self.pattern(depth)
        return [self.among(SOME) for _ in range(self.among([1, 2]))]

    def event(self, depth=4):
        names = [self.among(NAMES) for _ in range(self.among([1, 2, 3]))]
        return {name: self.value(depth - 1) for name in names}

    def value(self, depth):
        kind = self.among(["leaf", "object", "list", "list"] if depth else ["leaf"])
        if kind == "object":
            return self.event(depth)
        if kind == "list":
            return [self.value(depth - 1) for _ in range(self.among([1, 2, 3, 0]))]
        return self.among(FEW)
