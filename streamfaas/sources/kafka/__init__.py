"""Records out of Apache Kafka: whole batches from the broker to the worker, unopened."""

from streamfaas.sources.kafka.options import KafkaOptions
from streamfaas.sources.kafka.source import Kafka
from streamfaas.wire.kafka_options import SaslOptions, TlsOptions, TokenEndpoint

__all__ = ["Kafka", "KafkaOptions", "SaslOptions", "TlsOptions", "TokenEndpoint"]
