"""Kinesis streams, by polling."""

from streamfaas.sources.kinesis.options import KinesisOptions
from streamfaas.sources.kinesis.source import Kinesis

__all__ = ["Kinesis", "KinesisOptions"]
