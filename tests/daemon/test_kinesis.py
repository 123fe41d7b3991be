"""A Kinesis stream through the whole daemon, killed in the middle."""

import asyncio

import pytest

from daemon_process import DaemonProcess
from kinesis_project import executed, ids, produced, project


@pytest.mark.slow
def test_ten_thousand_records_reach_the_function_over_a_kill(tmp_path, kinesalite):
    asyncio.run(kinesalite.create("through", 3))
    produced(kinesalite, "through", range(5_000))
    config = project(tmp_path, kinesalite, "through")
    env = {"SECRET": "a-secret"}
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: len(executed(tmp_path)) > 20, 60)
        daemon.process.kill()
        daemon.wait()
    before = len(ids(tmp_path))
    assert before < 10_000
    produced(kinesalite, "through", range(5_000, 10_000))
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: len(set(ids(tmp_path))) == 10_000, 90)
        daemon.signal()
        assert daemon.wait() == 0
    found = ids(tmp_path)
    assert set(found) == {str(number) for number in range(10_000)}
    assert len(found) - 10_000 <= 5_000  # what was not marked as done when it was killed
    with DaemonProcess(config, env=env) as daemon:  # and nothing comes again after a stop
        daemon.wait_ready()
        daemon.signal()
        assert daemon.wait() == 0
    assert len(ids(tmp_path)) == len(found)
