"""Data sets have fixed stratified splits, a hash of their contents and random images of each class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from popgen.data import DataSet, Part, load_data
from popgen.data.dataset import from_arrays
from popgen.errors import BadInput


def keys(part: Part) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.inputs}


def parts(data: DataSet) -> list[Part]:
    return [data.train, data.val, data.test]


def test_digits_are_split_once_and_for_all() -> None:
    data = load_data("digits")
    assert [len(p) for p in parts(data)] == [1000, 300, 497]
    assert data.shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert data.sha256 == "c3e8ec4d6b2ea190bc65e4f1cb904a1766bda06468da2d7d07a6bb0351121716"


def test_splits_are_disjoint_and_hold_everything() -> None:
    bunch, data = load_digits(), load_data("digits")
    rows = [
        np.append(image.numpy().ravel() * 16, label)
        for part in parts(data)
        for image, label in zip(part.inputs, part.targets, strict=True)
    ]
    expected = np.column_stack([bunch.data, bunch.target])
    assert sorted(map(bytes, np.array(rows).astype(np.uint8))) == sorted(map(bytes, expected.astype(np.uint8)))


def test_splits_are_stratified() -> None:
    data = load_data("digits")
    total = torch.cat([p.targets for p in parts(data)]).bincount()
    for part in parts(data):
        assert torch.all((part.targets.bincount() - total * len(part) / 1797).abs() <= 1)


@settings(max_examples=20, deadline=None)
@given(labels=st.lists(st.integers(0, 3), min_size=10, max_size=60), train=st.sampled_from([0.5, 0.6, 0.7]))
def test_any_pool_is_split_by_class(labels: list[int], train: float) -> None:
    pool = torch.arange(len(labels)).view(-1, 1, 1, 1) / len(labels)
    data = from_arrays("x", pool, torch.tensor(labels), tuple("0123"), (train, 0.2))
    again = from_arrays("x", pool, torch.tensor(labels), tuple("0123"), (train, 0.2))
    assert data.sha256 == again.sha256
    assert torch.equal(torch.cat([p.inputs for p in parts(data)]).flatten().sort().values, pool.flatten())
    for part, share in zip(parts(data), (train, 0.2, 0.8 - train), strict=True):
        assert abs(len(part) - share * len(labels)) <= 1
        for label in range(4):
            assert abs(int((part.targets == label).sum()) - share * labels.count(label)) <= 2


def test_hashes_tell_contents_and_splits_apart() -> None:
    data = load_data("digits")
    assert load_data("digits/invert").sha256 != data.sha256
    assert DataSet("x", data.classes, data.train, data.test, data.val).sha256 != data.sha256
    assert DataSet("x", data.classes, data.train, data.val, data.test).sha256 == data.sha256


def test_per_class_draws_images_of_each_class() -> None:
    data = load_data("digits")
    drawn = data.per_class("train", 5, torch.Generator().manual_seed(3))
    assert drawn.shape == (10, 5, 1, 8, 8)
    for label in range(10):
        own = keys(data.train.take(data.train.targets == label))
        found = [image.numpy().tobytes() for image in drawn[label]]
        assert len(set(found)) == 5
        assert set(found) <= own
    assert torch.equal(drawn, data.per_class("train", 5, torch.Generator().manual_seed(3)))
    assert not torch.equal(drawn, data.per_class("train", 5, torch.Generator().manual_seed(4)))
    # A class has only 30 validation images, so that some of them are drawn several times.
    assert data.per_class("val", 200, torch.Generator().manual_seed(3)).shape == (10, 200, 1, 8, 8)


def test_a_class_without_images_is_refused_instead_of_shifting_the_later_ones() -> None:
    data = load_data("digits")
    kept = (data.train.targets != 3).nonzero().flatten()
    without = replace(data, train=data.train.take(kept))
    for call in (
        lambda: without.per_class("train", 5, torch.Generator().manual_seed(0)),
        lambda: without.check_classes("train"),
    ):
        with pytest.raises(BadInput, match="data set 'digits' has classes without training images: 3\n"):
            call()
    without.check_classes("val")
