"""A data set that a user's function returns is checked before anything is done with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from popgen.data import DataSet, Part, load_data
from popgen.data.check import check_made
from popgen.errors import BadInput

DIGITS = load_data("digits")


def with_train(inputs: object, targets: object) -> DataSet:
    return replace(DIGITS, train=Part(inputs, targets))  # type: ignore[arg-type]


def test_a_sound_data_set_has_no_remarks() -> None:
    assert check_made("my:make", DIGITS) == ()
    assert check_made("my:make", DIGITS.each(lambda part: Part(2 * part.inputs - 1, part.targets))) == (
        "pixels go from -1 to 1, where 0 to 1 is expected",
    )


X, Y = DIGITS.train.inputs, DIGITS.train.targets


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: with_train(X.numpy(), Y), "inputs and targets are ndarray and Tensor"),
        (lambda: with_train(X[:9], Y), r"inputs have the shape \(9, 1, 8, 8\), targets \(1000,\)"),
        (lambda: with_train(X[:0], Y[:0]), r"inputs have the shape \(0, "),
        (lambda: with_train(X / 0, Y), "NaN or infinite"),
        (lambda: with_train(X, Y.float()), r"targets are torch.float32 of shape \(1000,\)"),
        (lambda: with_train(X, Y + 1), "targets go from 1 to 10, and there are 10 classes"),
        (lambda: with_train(X[:, :, 1:], Y), r"inputs of different shapes\n\[\(1, 7, 8\), \(1, 8, 8\)\]"),
        (
            lambda: replace(DIGITS, phrases=("a nought", "a one")),
            "has 2 phrases for 10 classes\nGive a phrase for each",
        ),
        (lambda: with_train(X, Y - 1), "targets go from -1 to 8"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], DataSet], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        check_made("my:make", make())
