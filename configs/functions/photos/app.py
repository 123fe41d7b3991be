"""Makes a thumbnail of each photo. Written for AWS Lambda: nothing here knows of another store."""

import io
import os
import urllib.parse

import boto3
from PIL import Image

s3 = boto3.client("s3")


def handler(event, context):
    """Reads each photo that the event names, and puts a small one into the bucket THUMBNAILS."""
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        key = urllib.parse.unquote_plus(record["s3"]["object"]["key"])
        photo = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        small = io.BytesIO()
        with Image.open(io.BytesIO(photo)) as image:
            image.thumbnail((160, 160))
            image.convert("RGB").save(small, "JPEG")
        s3.put_object(
            Bucket=os.environ["THUMBNAILS"],
            Key=key,
            Body=small.getvalue(),
            ContentType="image/jpeg",
        )
        print(f"{bucket}/{key} -> {os.environ['THUMBNAILS']}/{key} {image.width}x{image.height}")
