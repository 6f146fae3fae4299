"""Feedback for failed evaluations."""

from __future__ import annotations

import pytest

from search.optimizers.feedback import failure_feedback


def test_a_failure_ranks_last():
    assert failure_feedback([1.0, 3.0, None]) == 3.3
    assert failure_feedback([None]) == 1.0
    assert failure_feedback([-2.0, -2.0]) > -2.0
    assert failure_feedback([(1.0, -2.0), None, (3.0, -2.0)]) == pytest.approx((3.3, -1.8))
