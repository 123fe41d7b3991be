import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.failure import place_of

HANDLER = '  File "/var/task/handler.py", line 6, in main\n    total(order)\n'
BELOW = '  File "/var/task/lib/sums.py", line 17, in total\n    return order["total"]\n'
LIBRARY = '  File "/usr/lib/python3.11/json/decoder.py", line 337, in decode\n'
PACKAGE = '  File "/var/task/.venv/lib/python3.11/site-packages/x.py", line 1, in x\n'
FROZEN = '  File "<frozen importlib._bootstrap>", line 1, in x\n'
OUTSIDE = '  File "/home/me/hello/handler.py", line 3, in main\n'


@pytest.mark.parametrize(
    ("stack", "place"),
    [
        ((HANDLER,), "handler.py:6"),
        ((HANDLER, BELOW), "lib/sums.py:17"),
        ((HANDLER, LIBRARY, PACKAGE, FROZEN), "handler.py:6"),
        ((OUTSIDE,), "/home/me/hello/handler.py:3"),
        ((LIBRARY,), ""),
        (("at main (index.js:3)",), ""),
        ((), ""),
    ],
)
def test_a_failure_began_in_the_innermost_frame_that_is_of_no_library(stack, place):
    assert place_of(stack) == place


@given(st.lists(st.text()))
def test_whatever_a_runtime_gives_as_its_stack_has_a_place_or_none(stack):
    assert isinstance(place_of(stack), str)
