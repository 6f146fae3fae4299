"""The choice of forms under a total of bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popgen.errors import BadInput
from popgen.zoo.archive.budget import Form, choose_forms, hull

forms = st.lists(st.builds(Form, st.integers(1, 50), st.floats(-2, 20), st.just(("x", 0))), min_size=1, max_size=5).map(
    lambda found: [Form(60, 0.0, ("lossless", -1)), *found]
)


def total(chosen: list[Form]) -> int:
    return sum(form.bytes for form in chosen)


def loss(chosen: list[Form]) -> float:
    return sum(max(form.loss, 0) for form in chosen)


@settings(max_examples=60, deadline=None)
@given(st.lists(forms, min_size=1, max_size=3), st.integers(1, 200))
def test_the_total_is_kept_and_no_convex_choice_is_better(zoo: list[list[Form]], most: int) -> None:
    """The greedy choice is the best one for its own total: on the hulls, no combination of its size or below loses less."""
    smallest = sum(min(form.bytes for form in one) for one in zoo)
    if smallest > most:
        with pytest.raises(
            BadInput, match=rf"do not fit into {most:,} bytes(?s:.*)take {smallest:,}(?s:.*)--max-bytes"
        ):
            choose_forms(zoo, most)
        return
    chosen = choose_forms(zoo, most)
    assert total(chosen) <= most
    better = [c for c in itertools.product(*map(hull, zoo)) if total(list(c)) <= total(chosen)]
    assert min(loss(list(c)) for c in better) >= loss(chosen) - 1e-9


def test_what_loses_nothing_is_taken_first() -> None:
    free, dear = Form(2, 0.0, ("int8", -1)), Form(1, 5.0, ("1-bit", 0))
    assert choose_forms([[Form(9, 0.0, ("lossless", -1)), free, dear]] * 2, 4) == [free, free]
    assert hull([Form(9, 0.0, ("lossless", -1)), free]) == [free], "a larger form that loses as much is never chosen"
