import re
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from streamfaas.cli.demo import _lay_out
from streamfaas.cli.main import main


def demo(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "streamfaas", "demo", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


@pytest.mark.slow
def test_it_shows_the_main_job_with_one_failure_and_its_retry_and_cleans_up():
    with demo() as process:
        text = process.communicate(timeout=60)[0]
    assert process.returncode == 0, text
    assert re.search(r"✓ thumbnails/photos slot-\d @\d+  1 record  [\d.]+ ms", text)
    failures = text.count("✗ totals/orders")  # more where a new worker forgot the first
    assert failures >= 1
    assert "the price list did not answer" in text
    table = {line.split()[0]: line.split() for line in text.splitlines() if "/" in line[:20]}
    assert table["thumbnails/photos"][1:4] == ["8", "8", "0"]
    assert table["totals/orders"][1] == "200"
    assert table["totals/orders"][3] == str(failures)
    assert "orders-0@99, orders-1@99" in text
    assert text.rstrip().endswith("cd hello && streamfaas run streamfaas.yaml")


@pytest.mark.slow
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


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "streamfaas.yaml").write_text("mine")
    result = CliRunner().invoke(main, ["demo", "--dir", str(tmp_path)])
    there = f"streamfaas: {tmp_path}/streamfaas.yaml is there already: nothing was written\n"
    assert (result.exit_code, result.stderr) == (1, there)
    assert [each.name for each in tmp_path.iterdir()] == ["streamfaas.yaml"]
    assert (tmp_path / "streamfaas.yaml").read_text() == "mine"


def test_the_files_of_an_earlier_demo_are_no_hindrance(tmp_path):
    assert _lay_out(tmp_path) == _lay_out(tmp_path) == tmp_path / "streamfaas.yaml"
    (tmp_path / "totals" / "handler.py").write_text("mine")
    with pytest.raises(SystemExit):
        _lay_out(tmp_path)
    assert (tmp_path / "totals" / "handler.py").read_text() == "mine"


@pytest.mark.parametrize("place", ["/proc/x", "/dev/null/x"])
def test_a_place_that_cannot_be_written_is_told_in_one_line(place):
    result = CliRunner().invoke(main, ["demo", "--dir", place])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"streamfaas: cannot write {place}: ")
    assert result.stderr.count("\n") == 1
