"""The stream of a table as AWS' own DynamoDB Local has it."""

import pytest

import dynamodb_local
import parts


@pytest.mark.slow
def test_changes_of_dynamodb_local_come_in_order_and_none_is_lost_over_a_restart(tmp_path):
    try:
        seen = dynamodb_local.told(tmp_path)
    except parts.Unavailable as error:
        pytest.skip(str(error))
    by_item = {}
    for number in seen["earliest-1"] + seen["earliest-2"]:
        item = number % dynamodb_local.ITEMS
        assert number > by_item.get(item, -1)
        by_item[item] = number
    assert sorted(seen["earliest-1"]) == list(range(100))
    assert sorted(seen["earliest-2"]) == list(range(100, 150))
    assert seen["latest-1"] == []
    assert set(seen["latest-2"]) >= set(range(100, 150))
