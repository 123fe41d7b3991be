"""Says which items have run out."""

import json


def handler(event, context):
    """Names the first change that cannot be understood: what comes before it is done with."""
    for record in event["Records"]:
        change = record["dynamodb"]
        item = change.get("NewImage")
        try:
            if item is not None and int(item["left"]["N"]) == 0:
                print(json.dumps({"out_of_stock": change["Keys"]}))
        except (KeyError, ValueError):
            return {"batchItemFailures": [{"itemIdentifier": change["SequenceNumber"]}]}
    return {}
