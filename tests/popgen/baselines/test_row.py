"""A row of a search's table carries the standard errors of its accuracies."""

from __future__ import annotations

import math

import pytest

from popgen.baselines.row import Row, standard_error


def test_standard_errors_are_those_of_a_share_of_so_many_images() -> None:
    row = Row("search", 9, 0.9, 0.75, 0.3, images=(100, 300))
    assert row.standard_errors() == pytest.approx((0.03, 0.025))
    content = row.to_json()
    assert (content["val_standard_error"], content["test_standard_error"]) == pytest.approx((0.03, 0.025))
    assert content["val_accuracy"] == 0.9


def test_what_is_not_known_is_none() -> None:
    assert Row("search", 9, 0.9, 0.75, 0.3).standard_errors() == (None, None)
    assert Row("search", 9, 12.0, 13.0, 0.3, unit="perplexity", images=(100, 300)).standard_errors() == (None, None)
    assert standard_error(math.nan, 100) is None
    assert standard_error(1.0, 5) == 0
