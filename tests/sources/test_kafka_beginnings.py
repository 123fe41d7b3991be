from __future__ import annotations

from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.sources.kafka.beginnings import begins_late, birth_note, life_of

TOPICS = st.sets(st.sampled_from("abcde"), min_size=1)


@given(TOPICS, st.integers(1, 9), st.integers(0, 20), st.data())
def test_what_was_there_when_the_group_began_begins_where_it_was_told_to(topics, count, new, data):
    """Whoever of the members looks first, and whatever has been committed since."""
    topic = data.draw(st.sampled_from(sorted(topics)))
    others = data.draw(st.sets(st.integers(0, count - 1).filter(lambda n: n != new)))
    notes = {TopicPartition(topic, n): birth_note(count, topics, "0badcafe") for n in others}
    if others:
        late = begins_late(TopicPartition(topic, new), notes, topics, by_pattern=False)
        assert late == (new >= count)


@given(TOPICS, st.integers(0, 5), st.booleans())
def test_a_group_without_any_offset_has_nothing_late(topics, partition, by_pattern):
    for topic in topics:
        place = TopicPartition(topic, partition)
        assert not begins_late(place, {}, topics, by_pattern=by_pattern)


def test_a_note_says_which_beginning_it_is_of():
    assert life_of(birth_note(3, {"a"}, "0badcafe")) == "0badcafe"
    assert life_of("streamfaas 3/12345678") == ""  # as it was written once
    assert life_of("somebody else's") == ""


def test_a_group_of_another_client_is_joined_at_its_end_and_misses_nothing_new():
    notes = {TopicPartition("a", 0): ""}
    assert begins_late(TopicPartition("a", 1), notes, {"a"}, by_pattern=False)


def test_a_topic_that_was_just_configured_begins_where_it_was_told_to():
    notes = {TopicPartition("a", 0): birth_note(1, {"a"}, "0badcafe")}
    assert not begins_late(TopicPartition("b", 0), notes, {"a", "b"}, by_pattern=False)


def test_a_topic_that_a_pattern_finds_later_is_late_and_one_found_at_first_is_not():
    notes = {TopicPartition("a", 0): birth_note(1, {"a", "b"}, "0badcafe")}
    assert not begins_late(TopicPartition("b", 0), notes, {"b", "a"}, by_pattern=True)
    assert begins_late(TopicPartition("c", 0), notes, {"a", "b", "c"}, by_pattern=True)
