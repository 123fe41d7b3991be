from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from streamfaas.flow.errors import StoreError
from streamfaas.store import Store, place


def refusal(path) -> StoreError:
    async def main():
        store = await Store.open(path)
        await store.close()

    with pytest.raises(StoreError) as caught:
        asyncio.run(main())
    assert caught.value.remedy
    return caught.value


def test_a_directory_of_our_own_is_made(tmp_path):
    folder = tmp_path / "a" / "b"
    place.secure(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    place.secure(folder)


def test_a_symbolic_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to("real")
    assert "symbolic link" in str(refusal(tmp_path / "state" / "streamfaas.db"))


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path, mode):
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    error = refusal(folder / "streamfaas.db")
    assert f"mode {mode:04o}" in str(error)
    assert "chmod go-w" in error.remedy
    assert list(folder.iterdir()) == []


def test_a_place_where_everybody_could_put_another_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    error = refusal(tmp_path / "state" / "streamfaas.db")
    assert "lies where everybody may put another in its place" in str(error)
    assert error.remedy == f"chmod o-w {tmp_path}"
    tmp_path.chmod(0o1777)  # as /tmp is
    place.secure(tmp_path / "state")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    assert "belongs to user 65534, not to 0" in str(refusal(folder / "streamfaas.db"))


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "state").write_text("")
    assert "cannot be made" in str(refusal(tmp_path / "state" / "streamfaas.db"))


def test_a_lock_that_is_a_symbolic_link_is_refused(tmp_path):
    (tmp_path / "streamfaas.db.lock").symlink_to("elsewhere")
    assert "cannot lock" in str(refusal(tmp_path / "streamfaas.db"))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_the_lock_names_its_holder_and_goes_with_it(tmp_path):
    path = tmp_path / "lock"
    script = (
        "import pathlib, sys; from streamfaas.store import place\n"
        f"place.lock(pathlib.Path({str(path)!r})); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=rf"another daemon, process {child.pid}\b"):
            place.lock(path)
        child.stdin.close()
    os.close(place.lock(path))


@pytest.mark.root
@pytest.mark.slow
def test_a_read_only_file_system_is_refused(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount")
    try:
        state = folder / "state" / "streamfaas.db"

        async def main():
            store = await Store.open(state)
            await store.close()

        asyncio.run(main())
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        refusal(state)
        refusal(folder / "other" / "streamfaas.db")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
