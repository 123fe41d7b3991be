"""A real Ceph posts to configs/webhook.yaml: what is written in it is run, also over a kill."""

from __future__ import annotations

import asyncio
import shutil
import socket

import pytest

from daemon_process import DaemonProcess
from parts import CHECKOUT

COUNT = 60


@pytest.mark.slow
def test_every_object_that_ceph_has_told_of_is_run_over_a_kill(tmp_path, ceph):
    with socket.create_server(("127.0.0.1", 0)) as found:
        address = f"127.0.0.1:{found.getsockname()[1]}"
    shutil.copy(CHECKOUT / "configs" / "webhook.yaml", tmp_path)
    shutil.copytree(CHECKOUT / "configs" / "functions" / "uploads", tmp_path / "functions/uploads")
    (tmp_path / "webhook").write_text("a-secret\n")
    env = {"WEBHOOK_ADDRESS": address, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    config = tmp_path / "webhook.yaml"

    async def put(client, number):
        """Answered once it was told of, and that was taken."""
        await client.put_object(Bucket="uploads", Key=f"a +{number}", Body=b"x")

    async def main():
        async with ceph.client("s3") as client:
            await client.create_bucket(Bucket="uploads")
            place = f"http://{address}/uploads?token=a-secret"
            with DaemonProcess(config, env=env) as daemon:
                await asyncio.to_thread(daemon.wait_ready)
                await ceph.notify("uploads", place, "s3:ObjectCreated:*")
                await asyncio.gather(*(put(client, number) for number in range(COUNT // 2)))
                daemon.process.kill()
                daemon.wait()
                first = daemon.text
            with DaemonProcess(config, env=env) as daemon:
                await asyncio.to_thread(daemon.wait_ready)
                await asyncio.gather(*(put(client, number) for number in range(COUNT // 2, COUNT)))
                wanted = {f"ObjectCreated:Put uploads/a +{number} 1" for number in range(COUNT)}
                await asyncio.to_thread(
                    daemon.wait_for, lambda _: all(each in first + daemon.text for each in wanted)
                )
                assert await asyncio.to_thread(daemon.stop) == 0

    asyncio.run(main())
