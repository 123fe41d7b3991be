"""Quix Streams, bytes in, one callable for each record."""

import logging
import sys
import uuid

from measured import Ids, Meter
from quixstreams import Application

bootstrap, topic, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
application = Application(
    broker_address=bootstrap,
    consumer_group=f"quix-{uuid.uuid4()}",
    auto_offset_reset="earliest",
    loglevel=logging.ERROR,
)
meter, ids = Meter(), Ids()


def handle(value):
    meter.start()
    ids.see((value,))
    if ids.count == wanted:
        meter.report(ids.count)
        application.stop()


frame = application.dataframe(application.topic(topic, value_deserializer="bytes"))
frame.update(handle)
application.run()
