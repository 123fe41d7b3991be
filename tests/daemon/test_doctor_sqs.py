"""doctor asks a queue for itself, and whether it fits its trigger."""

import json

import uvloop

from sqs_project import created, project, sent
from streamfaas.config.check import check
from streamfaas.daemon.doctor import sqs


def findings(path):
    config, problems = check(
        path.read_text(), name=path.name, base_dir=path.parent, environ={"SECRET": "x"}
    )
    assert config is not None, problems
    (one,) = sqs.checks(config)

    async def main():
        return await one.perform()

    return uvloop.run(main())


def test_a_queue_that_is_there_is_told_of_and_one_that_is_not_has_a_remedy(tmp_path, moto):
    dead = created(moto, "doctor-dead").rpartition("/")[2]
    policy = {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{moto.account}:{dead}",
              "maxReceiveCount": "5"}  # fmt: skip
    url = created(moto, "doctor-asked", RedrivePolicy=json.dumps(policy))
    sent(moto, url, range(3))
    path = project(tmp_path, moto, "doctor-asked")
    (found,) = findings(path)
    assert found.mark == "ok"
    assert "queue doctor-asked: 3 messages wait; after 5 receives to its dead-letter" in found.told
    path.write_text(path.read_text().replace("doctor-asked", "forgotten"))
    (found,) = findings(path)
    assert "NonExistentQueue" in found.told
    assert "`queue`" in found.remedy
    path.write_text(path.read_text().replace(moto.url, "http://127.0.0.1:1"))
    (found,) = findings(path)
    assert "`endpoint_url`" in found.remedy


def test_what_of_a_queue_gets_in_the_way_of_its_trigger_is_worth_a_look(tmp_path, moto):
    created(moto, "doctor-bare", VisibilityTimeout="36000")
    _, endless, hidden = findings(project(tmp_path, moto, "doctor-bare"))
    assert "there is no redrive policy" in endless.told
    assert "hidden for up to 10.0 h" in hidden.told
    for count, asked, told in [
        ("1", {}, "moves what has failed once, with all of its batch"),
        ("4", {"retries": {"max": 1}}, "moves what was received 4 times; crashes count"),
        ("3", {"retries": {"max": 3}}, "3 receives, and retries.max 3"),
    ]:
        arn = f"arn:aws:sqs:us-east-1:{moto.account}:doctor-bare"
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": count})
        created(moto, f"doctor-{count}", RedrivePolicy=policy)
        letters = {"on_failure": {"type": "file", "path": "dead.jsonl"}, **asked}
        found = findings(project(tmp_path, moto, f"doctor-{count}", **letters))
        assert [each.code for each in found] == ["", "SF3051"]
        assert told in found[1].told
