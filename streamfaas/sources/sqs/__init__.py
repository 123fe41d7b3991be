"""SQS queues, standard and FIFO."""

from streamfaas.sources.sqs.options import SqsOptions
from streamfaas.sources.sqs.source import Sqs

__all__ = ["Sqs", "SqsOptions"]
