"""Tells of the files that were put into a bucket."""

from urllib.parse import unquote_plus


def handler(event, context):
    """Prints the key and the size of each file."""
    for record in event["Records"]:
        stored = record["s3"]["object"]
        print(f"{unquote_plus(stored['key'])}: {stored.get('size', 0)} bytes")
