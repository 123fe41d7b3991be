"""No child of a shard is read before its parents are finished with."""

from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.shards import readable


@st.composite
def families(draw):
    """Shards as splits and merges make them, some of the oldest forgotten."""
    known = {}
    for number in range(draw(st.integers(1, 12))):
        older = sorted(known)
        parents = draw(st.lists(st.sampled_from(older), max_size=2, unique=True)) if older else []
        known[f"s{number:02}"] = tuple(parents)
    forgotten = draw(st.integers(0, len(known) - 1))
    return dict(list(known.items())[forgotten:])


@given(families(), st.randoms())
def test_all_are_read_once_and_children_after_their_parents(known, chance):
    ended, order = set(), []
    while len(ended) < len(known):
        due = readable(known, ended)
        assert due, "nothing may be read, and not all is"
        for shard in due:
            assert shard not in ended
            assert all(parent in ended for parent in known[shard] if parent in known)
        chosen = chance.choice(due)
        ended.add(chosen)
        order.append(chosen)
    assert sorted(order) == sorted(known)
    assert readable(known, ended) == []


def test_a_parent_that_the_stream_has_forgotten_holds_nobody_up():
    assert readable({"b": ("a",)}, ()) == ["b"]


def test_a_parent_that_it_knows_is_read_first_however_old_it_is():
    assert readable({"b": ("a",), "a": ()}, ()) == ["a"]
    assert readable({"c": ("a", "b"), "a": (), "b": ()}, {"a"}) == ["b"]
    assert readable({"c": ("a", "b"), "a": (), "b": ()}, {"a", "b"}) == ["c"]
