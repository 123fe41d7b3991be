"""Tells of each object that comes into a bucket: where it is, and how large."""

from urllib.parse import unquote_plus


def handler(event, context):
    """One record an event, as S3 has it; its key is encoded as in a form."""
    (record,) = event["Records"]
    bucket, described = record["s3"]["bucket"]["name"], record["s3"]["object"]
    key = unquote_plus(described["key"])
    print(f"{record['eventName']} {bucket}/{key} {described.get('size', 0)}")
    return {"bucket": bucket, "key": key}
