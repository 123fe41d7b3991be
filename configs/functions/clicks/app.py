"""Counts clicks by page."""

import base64
import json
from collections import Counter


def handler(event, context):
    """Names the first click that cannot be read: what comes before it is done with."""
    pages = Counter()
    for record in event["Records"]:
        try:
            click = json.loads(base64.b64decode(record["kinesis"]["data"]))
            pages[click["page"]] += 1
        except (KeyError, TypeError, ValueError):
            sequence = record["kinesis"]["sequenceNumber"]
            return {"batchItemFailures": [{"itemIdentifier": sequence}]}
    print(json.dumps(pages.most_common(3)))
    return {}
