"""A matcher of event patterns that is only right: it tries everything. The judge of the real one.

It is written from the rules, on other means than the real one: events are flattened, arrays are
kept apart by the places in them, every choice is tried, texts are compared by regular expressions
and addresses by networks.
"""

from __future__ import annotations

import ipaddress
import re
from fractions import Fraction

from streamfaas.flow.json_text import Number


def matches(pattern, event):
    """Whether the event satisfies a valid pattern."""
    leaves = list(flattened(event))
    return any(assignable(sorted(rule.items()), leaves, {}) for rule in alternatives(pattern))


def flattened(value, steps=(), places=(), counter=None):
    """Every leaf: the dotted name of its field, its value, and its element in each array."""
    counter = counter if counter is not None else [0]
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flattened(inner, (*steps, key), places, counter)
    elif isinstance(value, list):
        counter[0] += 1
        array = counter[0]
        for at, inner in enumerate(value):
            deeper = isinstance(inner, dict | list)
            here = (*places, (array, at)) if deeper else places
            yield from flattened(inner, steps, here, counter)
    else:
        yield ".".join(steps), value, dict(places)


def alternatives(pattern, steps=(), rules=({},)):
    for key, inner in pattern.items():
        if key == "$or":
            rules = [r for each in inner for r in alternatives(each, steps, rules)]
        elif isinstance(inner, dict):
            rules = alternatives(inner, (*steps, key), rules)
        else:
            rules = [{**rule, ".".join((*steps, key)): inner} for rule in rules]
    return rules


def assignable(fields, leaves, chosen):
    """Whether there are leaves for all the fields that agree on the elements they are in."""
    if not fields:
        return True
    (name, wanted), *rest = fields
    seen = [
        (value, chosen | places)
        for found, value, places in leaves
        if found == name and all(chosen.get(array, at) == at for array, at in places.items())
    ]
    if not seen and {"exists": False} in wanted:
        return assignable(rest, leaves, chosen)
    return any(
        assignable(rest, leaves, places)
        for value, places in seen
        if any(accepted(entry, value) for entry in wanted)
    )


def accepted(entry, value):
    if not isinstance(entry, dict):
        if is_text(entry) and is_text(value) and network(entry) and network(value):
            return network(entry) == network(value)
        return type(entry) is type(value) and entry == value
    (operator, operand) = next(iter(entry.items()))
    return OPERATORS[operator](operand, value)


def is_text(value):
    return type(value) is str


def network(text):
    """A block of addresses, or one address as a block; None for any other text."""
    try:
        address, *bits = text.split("/")
        found = ipaddress.ip_address(address)
        found = getattr(found, "ipv4_mapped", None) or found
        return ipaddress.ip_network("/".join([str(found), *bits]), strict=False)
    except ValueError:
        return None


def cidr(operand, value):
    if not is_text(value) or "/" in value:
        return False
    block, found = network(operand), network(value)
    return found is not None and found.version == block.version and found.subnet_of(block)


def exact(text):
    """A number's value, if a double's shortest writing has the same value."""
    try:
        value = Fraction(text)
        return value if value == Fraction(repr(float(text))) else None
    except (ValueError, OverflowError):
        return None


def numeric(operand, value):
    number = exact(value) if isinstance(value, Number) else None
    if number is None:
        return False
    pairs = zip(operand[::2], map(Fraction, operand[1::2]), strict=True)
    return all((number > b) - (number < b) in SIDES[comparison] for comparison, b in pairs)


SIDES = {"=": {0}, "<": {-1}, "<=": {-1, 0}, ">": {1}, ">=": {0, 1}}


def folded(text):
    return "".join(f"[{re.escape(c.lower())}{re.escape(c.upper())}]" for c in text)


def starred(text):
    found = re.findall(r"\\[*\\]|[^\\]", text)
    return "".join(".*" if c == "*" else re.escape(c[-1]) for c in found)


def by_expression(make):
    def check(operand, value):
        return is_text(value) and re.fullmatch(make(operand), value, re.DOTALL) is not None

    return check


def affix(text_of):
    def make(operand):
        inner = folded(operand["equals-ignore-case"]) if isinstance(operand, dict) else None
        return text_of(inner if inner is not None else re.escape(operand))

    return make


def anything_but(operand, value):
    if isinstance(operand, dict):
        (operator, inner) = next(iter(operand.items()))
        inner = inner if isinstance(inner, list) else [inner]
        return not any(OPERATORS[operator](each, value) for each in inner)
    refused = operand if isinstance(operand, list) else [operand]
    if isinstance(refused[0], Number):
        number = exact(value) if isinstance(value, Number) else None
        return number is None or number not in {exact(each) for each in refused}
    return not is_text(value) or value not in refused


OPERATORS = {
    "exists": lambda operand, value: operand,
    "exactly": lambda operand, value: is_text(value) and value == operand,
    "prefix": by_expression(affix(lambda inner: inner + ".*")),
    "suffix": by_expression(affix(lambda inner: ".*" + inner)),
    "equals-ignore-case": by_expression(folded),
    "wildcard": by_expression(starred),
    "numeric": numeric,
    "cidr": cidr,
    "anything-but": anything_but,
}
