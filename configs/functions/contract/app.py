"""Takes orders, says which of them it could not, and pays those back."""

import base64
import json

DEAREST = 195


def orders(event, context):
    """Gives back the records that failed: only those are tried again."""
    failed = [
        {"partition": f"{record['topic']}-{record['partition']}", "offset": record["offset"]}
        for record in _records(event)
        if _order(record)["total"] > DEAREST
    ]
    return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}


def refunds(event, context):
    """Takes what was given up: the document that says why, with the event in it."""
    paid = {_order(record)["id"]: _order(record)["total"] for record in _records(event["payload"])}
    return {"condition": event["requestContext"]["condition"], "paid back": paid}


def _records(event):
    return [record for records in event["records"].values() for record in records]


def _order(record):
    return json.loads(base64.b64decode(record["value"]))
