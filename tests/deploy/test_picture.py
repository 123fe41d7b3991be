"""The picture of the dashboard: what it is drawn of, and that it stays small."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard_picture import PICTURE, draw, shown, step_of
from expressions import DEPLOY
from parts import CHECKOUT


@given(st.floats(1e-6, 1e12))
def test_an_axis_has_four_or_five_round_steps(highest):
    step = step_of(highest)
    assert 1.5 <= highest / step <= 4.01
    lead = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    assert any(math.isclose(lead, each) for each in (1, 2, 2.5, 5, 10))


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (0.0333, "percentunit", "3.33%"),
        (63 << 20, "bytes", "63 MiB"),
        (0.0171, "s", "17.1 ms"),
        (0.0, "s", "0 s"),
        (90.0, "s", "90 s"),
        (600.0, "s", "10 min"),
        (18_200.0, "short", "18.2 K"),
        (662.0, "cps", "662 c/s"),
    ],
)
def test_numbers_are_written_as_grafana_does(value, unit, told):
    assert shown(value, unit) == told


@pytest.mark.slow
def test_a_panel_is_drawn_of_its_answers_and_an_empty_one_stays_empty():
    board = json.loads((DEPLOY / "grafana" / "overview.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    expressions.append(board["annotations"]["list"][0]["expr"])
    empty = {"start": 0.0, "end": 100.0} | {key: [] for key in expressions}
    series = {
        "metric": {"function": "f", "trigger": "t"},
        "values": [[at, "5"] for at in range(0, 100, 2)],
    }
    blank, filled = draw(empty), draw(empty | {key: [series] for key in expressions})
    assert blank.size == filled.size
    assert blank.tobytes() != filled.tobytes()


def test_the_picture_is_small_and_the_readme_shows_it():
    assert 10_000 < PICTURE.stat().st_size < 150_000
    assert f"]({PICTURE.relative_to(CHECKOUT)})" in (CHECKOUT / "README.md").read_text()
