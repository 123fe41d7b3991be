"""Records out of Apache Kafka: whole batches from the broker to the worker, unopened."""

from streamfaas.sources.kafka.options import KafkaOptions, SaslOptions, TlsOptions, TokenEndpoint
from streamfaas.sources.kafka.source import Kafka

__all__ = ["Kafka", "KafkaOptions", "SaslOptions", "TlsOptions", "TokenEndpoint"]
