from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamfaas.flow.errors import ProtocolError
from streamfaas.flow.handshake import TABLE, Handshake, State, Word

# every legal move, written down a second time
LIVES = {
    "starting": {"READY": "idle", "INIT_ERROR": "draining", "EXIT": "draining", "LOST": "dead"},
    "idle": {"INVOKE": "busy", "EXIT": "draining", "LOST": "dead"},
    "busy": {"RESULT": "idle", "ERROR": "idle", "LOST": "dead"},
    "draining": {"READY": "draining", "INIT_ERROR": "draining", "LOST": "dead"},
    "dead": {"LOST": "dead"},
}


class Life(RuleBasedStateMachine):
    """A worker's life, word by word, beside what may be told of it from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.worker = Handshake()
        self.invoked = self.answered = 0
        self.left = self.lost = False

    def legal(self) -> set[str]:
        return set(LIVES[self.worker.state.value])

    @rule(data=st.data())
    def a_legal_word_moves_on(self, data):
        word = Word[data.draw(st.sampled_from(sorted(self.legal())))]
        expected = LIVES[self.worker.state.value][word.name]

        assert self.worker.said(word).value == expected
        assert self.worker.state.value == expected
        self.invoked += word is Word.INVOKE
        self.answered += word in {Word.RESULT, Word.ERROR}
        self.left |= word in {Word.EXIT, Word.INIT_ERROR}
        self.lost |= word is Word.LOST

    @precondition(lambda self: len(self.legal()) < len(Word))
    @rule(data=st.data())
    def an_illegal_word_is_refused_and_changes_nothing(self, data):
        illegal = sorted({word.name for word in Word} - self.legal())
        word = Word[data.draw(st.sampled_from(illegal))]
        before = self.worker.state

        with pytest.raises(ProtocolError, match=f"{word.name} while {before.value}"):
            self.worker.said(word)
        assert self.worker.state is before

    @invariant()
    def one_call_at_a_time_and_no_word_after_the_end(self):
        assert 0 <= self.invoked - self.answered <= 1
        if self.lost:
            assert self.worker.state is State.DEAD
        elif self.left:
            assert self.worker.state is State.DRAINING
        else:
            busy = self.worker.state is State.BUSY
            assert busy == (self.invoked > self.answered)


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=20)
TestLife = Life.TestCase


@pytest.mark.parametrize(("state", "word"), list(itertools.product(State, Word)))
def test_the_table_allows_these_words_and_no_others(state, word):
    follows = TABLE.get((state, word))

    assert (follows and follows.value) == LIVES[state.value].get(word.name)


@pytest.mark.parametrize("state", State)
def test_a_lost_channel_is_the_end_in_every_state(state):
    worker = Handshake()
    worker.state = state

    assert worker.said(Word.LOST) is State.DEAD


def test_a_second_call_while_one_runs_is_refused():
    worker = Handshake()
    worker.said(Word.READY)
    worker.said(Word.INVOKE)

    with pytest.raises(ProtocolError, match="INVOKE while busy"):
        worker.said(Word.INVOKE)


def test_an_answer_that_nobody_asked_for_is_refused():
    worker = Handshake()
    worker.said(Word.READY)

    with pytest.raises(ProtocolError, match="RESULT while idle"):
        worker.said(Word.RESULT)


def test_the_words_have_the_numbers_of_the_frames_on_the_wire():
    assert {word.name: int(word) for word in Word} == {
        "INVOKE": 1,
        "EXIT": 2,
        "READY": 16,
        "INIT_ERROR": 17,
        "RESULT": 18,
        "ERROR": 19,
        "LOST": 255,
    }
