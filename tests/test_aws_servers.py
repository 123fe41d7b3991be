import asyncio
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("service", ["sqs", "s3", "sns", "dynamodb"])
def test_each_server_answers_the_real_client(aws_server, service):
    asks = {
        "sqs": "list_queues",
        "s3": "list_buckets",
        "sns": "list_topics",
        "dynamodb": "list_tables",
    }

    async def ask():
        async with aws_server.client(service) as client:
            return await getattr(client, asks[service])()

    answer = asyncio.run(ask())
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_both_listen_on_loopback_alone(aws_server):
    assert aws_server.url.startswith("http://127.0.0.1:")
    port = int(aws_server.url.rpartition(":")[2])
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == port
    ]
    assert listening == [f"0100007F:{port:04X}"]
