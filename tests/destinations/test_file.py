import resource

import anyio
import pytest

import delivery_subjects
from delivery_subjects import each_check, each_check_of_faults, judge
from streamfaas.destinations.file import File
from streamfaas.flow.errors import Unreachable
from streamfaas.flow.letters import Letter


def letter(document):
    return Letter("1", document)


def send(path, *documents):
    anyio.run(File(path).send, [letter(document) for document in documents])


@each_check
def test_it_keeps_the_contract(check, tmp_path):
    judge(check, delivery_subjects.file(tmp_path), loop=anyio.run)


@each_check_of_faults
def test_it_keeps_the_contract_when_it_is_broken(check, tmp_path):
    judge(check, delivery_subjects.file(tmp_path), "gone", loop=anyio.run)


def test_each_document_is_one_whole_line(tmp_path):
    path = tmp_path / "new" / "dead.jsonl"

    async def main():
        file = File(path)
        await file.open()
        for number in range(3):
            await file.send([letter(b'{"n":%d}' % number), letter(b"{}")])
        await file.close()

    anyio.run(main)
    assert path.read_bytes() == b'{"n":0}\n{}\n{"n":1}\n{}\n{"n":2}\n{}\n'


def test_a_torn_line_is_closed_off_so_that_the_next_document_stands_alone(tmp_path):
    path = tmp_path / "dead.jsonl"
    path.write_bytes(b'{"n":0}\n{"n":')
    send(path, b'{"n":1}')
    assert path.read_bytes().splitlines() == [b'{"n":0}', b'{"n":', b'{"n":1}']


def test_documents_sent_at_once_do_not_mix(tmp_path):
    path = tmp_path / "dead.jsonl"
    documents = [b'{"n":"%s"}' % (str(n).encode() * 5000) for n in range(10)]

    async def main():
        file = File(path)
        async with anyio.create_task_group() as tasks:
            for document in documents:
                tasks.start_soon(file.send, [letter(document)])

    anyio.run(main)
    assert sorted(path.read_bytes().splitlines()) == sorted(documents)


def test_a_file_that_was_rotated_away_is_made_anew(tmp_path):
    path = tmp_path / "dead.jsonl"

    async def main():
        file = File(path)
        await file.send([letter(b"1")])
        path.rename(tmp_path / "dead.jsonl.1")
        await file.send([letter(b"2")])

    anyio.run(main)
    assert path.read_bytes() == b"2\n"


def test_a_place_that_cannot_be_written_is_unreachable_and_says_which(tmp_path):
    blocker = tmp_path / "blocker"
    blocker.write_text("a file where a directory should be")
    with pytest.raises(Unreachable, match=r"cannot write .*dead\.jsonl"):
        send(blocker / "dead.jsonl", b"{}")


def test_a_disk_that_is_full_is_unreachable_and_the_next_line_is_whole(tmp_path):
    path = tmp_path / "dead.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(Unreachable):
            send(path, b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    send(path, b'{"n":1}')
    assert path.read_bytes().splitlines()[-1] == b'{"n":1}'


def test_the_file_is_not_for_everybody(tmp_path):
    path = tmp_path / "dead.jsonl"
    send(path, b"{}")
    assert path.stat().st_mode & 0o007 == 0
