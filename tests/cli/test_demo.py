import re
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow


def demo(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "streamfaas", "demo", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def test_it_shows_the_main_job_with_one_failure_and_its_retry_and_cleans_up():
    with demo() as process:
        text = process.communicate(timeout=60)[0]
    assert process.returncode == 0, text
    assert re.search(r"✓ thumbnails/photos slot-\d @\d+  1 record  [\d.]+ ms", text)
    assert text.count("✗ totals/orders") == 1
    assert "the price list did not answer" in text
    table = {line.split()[0]: line.split() for line in text.splitlines() if "/" in line[:20]}
    assert table["thumbnails/photos"][1:4] == ["8", "8", "0"]
    assert table["totals/orders"][1] == "200"
    assert table["totals/orders"][3] == "1"
    assert "orders-0@99, orders-1@99" in text
    assert text.rstrip().endswith("cd hello && streamfaas run streamfaas.yaml")


def test_kept_running_it_takes_files_of_one_s_own(tmp_path):
    from PIL import Image

    home = tmp_path / "demo"
    with demo("--keep", "--dir", str(home)) as process:
        try:
            for line in process.stdout:
                if "Ctrl-C ends the demo" in line:
                    break
            Image.new("RGB", (640, 480), "teal").save(home / "photos" / "incoming" / "mine.jpg")
            thumbnail = home / "photos" / "thumbs" / "mine.jpg"
            deadline = time.monotonic() + 20
            while not thumbnail.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert thumbnail.exists()
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
    assert process.returncode == 0
    assert (home / "streamfaas.yaml").exists()
