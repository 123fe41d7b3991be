"""Calls of a service that speaks JSON, without most of what the SDK does for each."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import orjson
from botocore.awsrequest import AWSPreparedRequest

from streamfaas.wire.aws import ERRORS

_CONTENT_TYPE = "application/x-amz-json-{}"
_FAILED: tuple[type[Exception], ...] = (*ERRORS, orjson.JSONDecodeError)


class Calls:
    """What is asked for again and again, by the connections and credentials of one of the SDK's
    clients: choosing an endpoint, validating, and a dozen hooks cost it more than all else. Only
    what succeeds at once is done here; whatever else happens, the client is asked, which knows how
    to try again and what errors are."""

    def __init__(self, client: Any, *, now: Callable[[], time.struct_time] = time.gmtime) -> None:
        about = client.meta.service_model
        self._client = client
        self._connections = client._endpoint.http_session  # noqa: SLF001 - no other way leads there
        self._credentials = client._request_signer._credentials  # noqa: SLF001 - as above
        self._url = client.meta.endpoint_url
        self._region = client.meta.region_name
        self._service = about.signing_name
        self._prefix = about.metadata["targetPrefix"]
        self._content_type = _CONTENT_TYPE.format(about.metadata["jsonVersion"])
        self._now = now

    async def __call__(self, method: str, asked: Mapping[str, Any]) -> Any:
        """What that method of the client answers, and raises."""
        answer = None
        if self._credentials is not None:
            answer = await self._quick(self._client.meta.method_to_api_mapping[method], asked)
        return await getattr(self._client, method)(**asked) if answer is None else answer

    async def _quick(self, operation: str, asked: Mapping[str, Any]) -> Any:
        """None where the client is to be asked."""
        body = orjson.dumps(asked)
        try:
            known = await self._credentials.get_frozen_credentials()
            headers = self._headers(operation, body, known)
            request = AWSPreparedRequest("POST", self._url, headers, body, stream_output=False)
            answer = await self._connections.send(request)
            return orjson.loads(await answer.content) if answer.status_code == 200 else None
        except _FAILED:
            return None

    def _headers(self, operation: str, body: bytes, known: Any) -> dict[str, str]:
        """Signed by version 4 of AWS' rules: <https://docs.aws.amazon.com/IAM/latest/UserGuide/
        reference_sigv.html>."""
        place, moment = urlsplit(self._url), time.strftime("%Y%m%dT%H%M%SZ", self._now())
        headers = {
            "content-type": self._content_type,
            "host": place.netloc,
            "x-amz-date": moment,
            **({"x-amz-security-token": known.token} if known.token else {}),
            "x-amz-target": f"{self._prefix}.{operation}",
        }
        names = ";".join(headers)
        told = "".join(f"{name}:{value}\n" for name, value in headers.items())
        digest = hashlib.sha256(body).hexdigest()
        asked = f"POST\n{place.path or '/'}\n\n{told}\n{names}\n{digest}"
        scope = f"{moment[:8]}/{self._region}/{self._service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        signature = _hmac(_key(known.secret_key, scope), text).hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={known.access_key}/{scope}, SignedHeaders={names}, "
            f"Signature={signature}"
        )
        return headers


@lru_cache(maxsize=8)
def _key(secret: str, scope: str) -> bytes:
    """Another each day."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
