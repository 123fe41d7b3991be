"""Signatures by which a receiver knows who has sent a document (Standard Webhooks)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

KEY_BYTES_MIN, KEY_BYTES_MAX = 24, 64


def signing_key(secret: str) -> bytes:
    """The key in a secret of the form `whsec_<base64>`. `ValueError` says what is wrong with it,
    without showing it."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is not base64 (with whsec_ before it)") from error
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        wanted = f"{KEY_BYTES_MIN} to {KEY_BYTES_MAX}"
        raise ValueError(f"holds a key of {len(key)} bytes, where {wanted} are wanted")
    return key


def signed_headers(key: bytes, document_id: str, at: float, body: bytes) -> dict[str, str]:
    """The three headers beside `body`. `at` is in epoch seconds."""
    moment = str(int(at))
    content = b".".join((document_id.encode(), moment.encode(), body))
    signature = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    return {
        "webhook-id": document_id,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{signature}",
    }
