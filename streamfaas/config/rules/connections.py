"""Rules of connections: addresses, certificates, logins and their secrets."""

from __future__ import annotations

from collections.abc import Iterator

from streamfaas.config import document, keys
from streamfaas.config.connections import AwsConnection, KafkaConnection, Sasl, Tls
from streamfaas.config.delivery import CONNECTED
from streamfaas.config.document import Scalar, Table
from streamfaas.config.masking import looks_secret
from streamfaas.config.object_stores import (
    ObjectQueueTrigger,
    ObjectStoreTrigger,
    ObjectTopicTrigger,
    listed_by,
)
from streamfaas.config.rules import certificates
from streamfaas.config.rules.case import (
    Case,
    authority,
    is_loopback,
    leased,
    of_kind,
    readable,
    unreadable,
)
from streamfaas.config.streams import DynamoDbTrigger, KinesisTrigger
from streamfaas.config.triggers import KafkaTrigger, SqsTrigger
from streamfaas.flow.errors import Problem


def _connections(case: Case) -> Iterator[Problem]:
    used = {trigger.connection for _, trigger in of_kind(case.config, KafkaTrigger)}
    used |= {trigger.connection for _, trigger in of_kind(case.config, KinesisTrigger)}
    used |= {each.connection for _, each in leased(case.config) if each.connection is not None}
    used |= {trigger.connection for _, trigger in of_kind(case.config, SqsTrigger)}
    used |= {trigger.connection for _, trigger in of_kind(case.config, ObjectQueueTrigger)}
    used |= {trigger.connection for _, trigger in of_kind(case.config, ObjectTopicTrigger)}
    used |= {trigger.connection for _, trigger in of_kind(case.config, DynamoDbTrigger)}
    used |= {listed_by(trigger) or "" for _, trigger in of_kind(case.config, ObjectStoreTrigger)}
    used |= {
        each.connection for _, each in case.config.destinations() if isinstance(each, CONNECTED)
    }
    used |= {each.connection for each in case.config.functions.values() if each.connection}
    for name, connection in case.config.connections.items():
        path = ("connections", name)
        if name not in used and case.whole:
            yield case.tell("SF1093", path, "nothing uses it", key=True, warning=True)
        if isinstance(connection, AwsConnection):
            yield from _aws(case, path, connection)
            continue
        for at, broker in enumerate(connection.brokers):
            if broker in connection.brokers[:at]:
                yield case.tell("SF1052", (*path, "brokers", at), f"{broker} is in the list twice")
        if connection.tls is not None:
            yield from _tls(case, (*path, "tls"), connection.tls)
        if connection.sasl is not None:
            yield from _sasl(case, (*path, "sasl"), connection.sasl, connection)


def _aws(case: Case, path: document.Path, connection: AwsConnection) -> Iterator[Problem]:
    yield from readable(case, (*path, "ca"), connection.ca)
    yield from authority(case, (*path, "ca"), connection.ca)
    given = [name for name in _KEY_PAIR if getattr(connection, name) is not None]
    if len(given) == 1:
        (other,) = set(_KEY_PAIR) - set(given)
        message = f"there is {given[0]} but no {other}"
        yield case.tell("SF1074", (*path, given[0]), message, f"add {other}", key=True)
    if connection.session_token is not None and not given:
        message = "there is a session_token but no key that it belongs to"
        yield case.tell("SF1074", (*path, "session_token"), message, key=True)
    if connection.profile is not None and given:
        message = "a profile and a key are both given"
        yield case.tell("SF1074", (*path, "profile"), message, "leave one of them out", key=True)
    url = connection.endpoint_url or ""
    if url.startswith("http://") and not is_loopback(url.removeprefix("http://").split("/")[0]):
        message = "records cross the network in the clear"
        yield case.tell("SF1091", (*path, "endpoint_url"), message, "use https", warning=True)


_KEY_PAIR = ("access_key_id", "secret_access_key")


def _tls(case: Case, path: document.Path, tls: Tls) -> Iterator[Problem]:
    for name in ("ca", "certificate", "key"):
        yield from readable(case, (*path, name), getattr(tls, name))
    yield from authority(case, (*path, "ca"), tls.ca)
    if tls.key and tls.certificate and not (unreadable(tls.key) or unreadable(tls.certificate)):
        password = tls.password.get_secret_value() if tls.password is not None else ""
        wrong = certificates.misfit(tls.certificate, tls.key, password)
        if wrong:
            yield case.tell("SF1075", (*path, "key"), f"{tls.key}: {wrong}")
    if (tls.key is None) != (tls.certificate is None):
        there, missing = ("key", "certificate") if tls.key else ("certificate", "key")
        yield case.tell("SF1075", (*path, there), f"there is a {there} but no {missing}")
    if tls.password is not None and tls.key is None:
        message = "there is a password but no key that it could open"
        yield case.tell("SF1075", (*path, "password"), message, key=True)


def _sasl(
    case: Case, path: document.Path, sasl: Sasl, connection: KafkaConnection
) -> Iterator[Problem]:
    tokens = sasl.mechanism == "OAUTHBEARER"
    wanted = ("token_file", "token_endpoint") if tokens else ("username", "password")
    given = [name for name in Sasl.model_fields if getattr(sasl, name) is not None]
    for name in given:
        if name != "mechanism" and name not in wanted:
            message = f"{name} means nothing to {sasl.mechanism}"
            hint = f"it wants {' or '.join(wanted) if tokens else ' and '.join(wanted)}"
            yield case.tell("SF1074", (*path, name), message, hint, key=True)
    missing = [name for name in wanted if name not in given]
    if tokens and len(missing) != 1:
        message = f"{sasl.mechanism} wants one of token_file and token_endpoint"
        yield case.tell("SF1074", path, message, key=True)
    elif not tokens and missing:
        message = f"{sasl.mechanism} wants {' and '.join(missing)}"
        yield case.tell("SF1074", path, message, key=True)
    yield from readable(case, (*path, "token_file"), sasl.token_file)
    far = not all(is_loopback(broker) for broker in connection.brokers)
    if connection.tls is None and far:
        message = "what is said here crosses the network in the clear: there is no tls"
        yield case.tell("SF1091", path, message, "add tls: {}", key=True, warning=True)
    url = sasl.token_endpoint.url if sasl.token_endpoint is not None else ""
    if url.startswith("http://") and not is_loopback(url.removeprefix("http://").split("/")[0]):
        where = (*path, "token_endpoint", "url")
        message = "the client's secret crosses the network in the clear"
        yield case.tell("SF1091", where, message, "use https", warning=True)


def _secrets(case: Case) -> Iterator[Problem]:
    for path, scalar in plain_secrets(case.root):
        yield case.tell(
            "SF1090",
            path,
            "a secret in plain text",
            f"write ${{credential:{_slug(path)}}} or ${{file:…}}",
            key=scalar.value is None,
            warning=True,
        )
    for path, _ in suspects(case.root):
        message = "this looks like a secret in plain text"
        hint = f"write ${{credential:{_slug(path)}}} or ${{file:…}}"
        yield case.tell("SF1096", path, message, hint, warning=True)


def plain_secrets(root: Table) -> Iterator[tuple[document.Path, Scalar]]:
    """The values of secret keys that are written out in the file."""
    for path, scalar in document.scalars(root):
        if keys.is_secret(path) and not scalar.origin and scalar.value is not None:
            yield path, scalar


def suspects(root: Table) -> Iterator[tuple[document.Path, Scalar]]:
    """The variables of functions that look like secrets, and are written out in the file."""
    functions = root.values.get("functions")
    for function in functions.values if isinstance(functions, Table) else ():
        path = ("functions", function, "env")
        env = document.find(root, path)
        for name, scalar in env.values.items() if isinstance(env, Table) else ():
            if not isinstance(scalar, Scalar) or scalar.origin or not scalar.value:
                continue
            if looks_secret(name, scalar.value):
                yield (*path, name), scalar


def _slug(path: document.Path) -> str:
    return "-".join(str(part) for part in (path[1:2] + path[-1:]))


RULES = (_connections, _secrets)
