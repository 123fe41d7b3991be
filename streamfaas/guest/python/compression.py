"""Kafka's codecs with a bound: a batch of a few bytes may unpack to gigabytes."""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

DECODED_BYTES_MAX = 64 * 1024 * 1024

_XERIAL = b"\x82SNAPPY\0"
_XERIAL_HEADER_BYTES = 16
_GZIP = 31


class TooLarge(ValueError):
    """What a batch unpacks to passes the bound."""

    def __init__(self) -> None:
        super().__init__(f"the batch unpacks to more than {DECODED_BYTES_MAX} bytes")


class Codecs:
    """Decoders that write into one kept region, which is mapped once and filled as needed.

    A result is good until the next one is asked for: the record decoder copies keys and values
    out of it, one batch at a time.
    """

    def __init__(self, cramjam: ModuleType) -> None:
        self._snappy_into: Callable[[Any, Any], int] = cramjam.snappy.decompress_raw_into
        self._snappy_size: Callable[[Any], int] = cramjam.snappy.decompress_raw_len
        self._lz4_into: Callable[[Any, Any], int] = cramjam.lz4.decompress_into
        self._zstd_into: Callable[[Any, Any], int] = cramjam.zstd.decompress_into
        self._region: memoryview | None = None
        self.size_bytes = 0  # of the last result

    def named(self) -> dict[str, Callable[..., Any]]:
        """Under the names by which the record decoder looks for them."""
        names: dict[str, Callable[..., Any]] = {}
        for codec in ("gzip", "snappy", "lz4", "zstd"):
            names[f"{codec}_decode"] = getattr(self, codec)
            names[f"{codec}_encode"] = _refuse
            names[f"has_{codec}"] = lambda: True
        return names

    def gzip(self, data: bytes | memoryview) -> bytes:
        """One or more members, one after the other."""
        rest, parts, room = bytes(data), [], DECODED_BYTES_MAX
        while rest:
            inflater = zlib.decompressobj(_GZIP)
            part = inflater.decompress(rest, room + 1)
            room -= len(part)
            if room < 0:
                raise TooLarge
            if not inflater.eof:
                raise ValueError("the gzip stream is cut short")
            parts.append(part)
            rest = inflater.unused_data
        unpacked = parts[0] if len(parts) == 1 else b"".join(parts)
        self.size_bytes = len(unpacked)
        return unpacked

    def snappy(self, data: bytes) -> memoryview:
        """One block, or the xerial frame of blocks that Java's clients write."""
        if not data.startswith(_XERIAL):
            return self._unpacked(self._snappy_block(memoryview(data), 0))
        view, at, size = memoryview(data), _XERIAL_HEADER_BYTES, 0
        while at < len(view):
            (length,) = struct.unpack_from(">i", view, at)
            at += 4
            if not 0 <= length <= len(view) - at:
                raise ValueError("a snappy block passes the end of the batch")
            size += self._snappy_block(view[at : at + length], size)
            at += length
        return self._unpacked(size)

    def lz4(self, data: bytes) -> memoryview:
        return self._unpacked(self._into(self._lz4_into, data))

    def zstd(self, data: bytes) -> memoryview:
        return self._unpacked(self._into(self._zstd_into, data))

    def _snappy_block(self, block: memoryview, at: int) -> int:
        if self._snappy_size(block) > DECODED_BYTES_MAX - at:
            raise TooLarge
        return self._snappy_into(block, self._kept()[at:])

    def _into(self, decode: Callable[[Any, Any], int], data: bytes) -> int:
        try:
            return decode(data, self._kept())
        except Exception as error:
            if "write whole buffer" in str(error):
                raise TooLarge from error
            raise

    def _unpacked(self, size: int) -> memoryview:
        self.size_bytes = size
        return self._kept()[:size]

    def _kept(self) -> memoryview:
        if self._region is None:
            self._region = memoryview(mmap.mmap(-1, DECODED_BYTES_MAX))
        return self._region


def _refuse(*_: object) -> bytes:
    raise NotImplementedError("a worker reads batches and writes none")
