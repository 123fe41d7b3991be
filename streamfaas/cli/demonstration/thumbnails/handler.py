"""Makes a thumbnail of each photo that is put into the bucket, as on AWS with S3."""

import urllib.parse
from pathlib import Path

from PIL import Image

SIZE = (160, 160)


def main(event, context):
    """Reads `incoming/NAME` and writes `thumbs/NAME`, both of the bucket bound at /mnt/photos."""
    made = []
    for record in event["Records"]:
        bucket = Path("/mnt") / record["s3"]["bucket"]["name"]
        key = urllib.parse.unquote_plus(record["s3"]["object"]["key"])
        thumbnail = bucket / "thumbs" / Path(key).name
        with Image.open(bucket / key) as photo:
            photo.thumbnail(SIZE)
            photo.convert("RGB").save(thumbnail, "JPEG")
        print(f"{key} -> thumbs/{thumbnail.name} {photo.width}x{photo.height}")
        made.append(thumbnail.name)
    return {"made": made}
