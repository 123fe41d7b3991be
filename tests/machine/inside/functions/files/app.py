import os
import time


def main(event, context):
    for record in event["Records"]:
        name = record["s3"]["object"]["key"]
        print(f"began {name}", flush=True)
        if name.startswith("slow"):
            time.sleep(10)
        print(f"ended {name} by {os.environ['EDITION']} with {os.environ['KEY']}", flush=True)
