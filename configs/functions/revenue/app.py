"""Adds up what was sold, partition by partition, in each window."""

import base64
import json


def handler(event, context):
    """Hands the sums on, and says them at the end of the window."""
    state = event["state"]
    for records in event["records"].values():
        for record in records:
            order = json.loads(base64.b64decode(record["value"]))
            state["orders"] = state.get("orders", 0) + 1
            state["total"] = round(state.get("total", 0) + order["total"], 2)
    if event["isFinalInvokeForWindow"]:
        print(json.dumps({"lane": event["shardId"], **event["window"], **state}))
    return {"state": state}
