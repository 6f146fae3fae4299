"""Data sets are loaded by name: sources, sizes and modifiers, names that are refused, and the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from popgen.data import DataSet, load_data
from popgen.data.dataset import from_arrays
from popgen.data.load import DataCache, check_data_name, split_name
from popgen.errors import BadInput, NotFound, PopgenError


@pytest.mark.parametrize(
    ("name", "source", "variants"),
    [
        ("digits", "digits", []),
        ("digits/rotate:45/invert", "digits", ["rotate:45", "invert"]),
        ("npz:a/b.npz/blur", "npz:a/b.npz", ["blur"]),
        ("folder:/x/y/mirror/noise:.2", "folder:/x/y", ["mirror", "noise:.2"]),
        ("my.module:load/invert", "my.module:load", ["invert"]),
        ("digits/spin:3", "digits/spin:3", []),
        ("invert", "invert", []),
    ],
)
def test_names_are_taken_apart(name: str, source: str, variants: list[str]) -> None:
    assert split_name(name) == (source, variants)


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("digit", NotFound, "there is no data set called 'digit'\nnearest known: digits"),
        ("digits/spin:3", NotFound, "there is no variant called 'spin'\nnearest known: "),
        ("digits/rotat:3", NotFound, "there is no variant called 'rotat'\nnearest known: rotate"),
        ("digits/rotate", BadInput, "variant 'rotate' needs a number\nfrom -360 to 360\nFor example rotate:45."),
        (
            "digits/rotate:",
            BadInput,
            "variant 'rotate:': '' is not in its range\nrotate takes a number from -360 to 360",
        ),
        ("digits/rotate:nan", BadInput, "'nan' is not in its range"),
        ("digits/rotate:1e3", BadInput, "'1e3' is not in its range"),
        ("digits/blur:0", BadInput, "blur takes a number from 0.05 to 20"),
        ("digits/invert:1", BadInput, "invert takes a number from 0 to 0"),
        ("npz:missing.npz", NotFound, "'missing.npz' of data set 'npz:missing.npz' does not exist"),
        ("folder:missing", NotFound, "'missing' of data set 'folder:missing' does not exist\nGive the path"),
        ("no_such_module:load", NotFound, "module 'no_such_module' of 'no_such_module:load' cannot be imported"),
        ("math:pie", NotFound, "'math' has no 'pie'"),
        ("builtins:dict", BadInput, "'builtins:dict' returned dict\nit must return a popgen.data.DataSet"),
    ],
)
def test_names_that_are_refused(name: str, error: type[PopgenError], text: str) -> None:
    with pytest.raises(error) as caught:
        load_data(name)
    assert text in str(caught.value)
    if not name.endswith((":pie", ":dict", ":load")):  # modules are imported with the data
        with pytest.raises(error):
            check_data_name(name)


def test_an_unknown_variant_behind_a_known_one_is_named() -> None:
    with pytest.raises(NotFound, match="no variant called 'spin'"):
        load_data("digits/rotate:45/spin:3")


def make_two() -> DataSet:
    return from_arrays("two", torch.zeros(20, 1, 4, 4), torch.arange(20) % 2, ("a", "b"))


def test_a_function_of_the_users_and_its_variants() -> None:
    assert load_data(f"{__name__}:make_two").classes == ("a", "b")
    assert torch.equal(load_data(f"{__name__}:make_two/invert").val.inputs, torch.ones(4, 1, 4, 4))


def test_any_data_set_is_resized(tmp_path: Path) -> None:
    data = load_data("digits/size:5/invert")
    assert (data.shape, data.name) == ((1, 5, 5), "digits/size:5/invert")
    assert data.remarks == ("images of 8x8: shorter side resized to 5, centre 5x5 kept",)
    assert load_data("digits/size:8").sha256 == load_data("digits").sha256
    columns = np.broadcast_to(np.arange(10, dtype=np.uint8) * 20, (40, 4, 10))
    np.savez(tmp_path / "wide.npz", x=columns, y=np.arange(40) % 4)
    wide = load_data(f"npz:{tmp_path / 'wide.npz'}/size:4")
    assert torch.allclose(wide.val.inputs[0, 0, 0] * 255, torch.tensor([60.0, 80, 100, 120]))  # the four middle columns


def test_a_loaded_data_set_is_kept_until_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((40, 4, 4), dtype=np.uint8), y=np.arange(40) % 4)
    data = load_data(f"npz:{path}")
    assert load_data(f"npz:{path}") is data
    np.savez(path, x=np.full((60, 4, 4), 255, dtype=np.uint8), y=np.arange(60) % 4)
    assert len(load_data(f"npz:{path}").train) == 36


def test_the_cache_drops_the_data_sets_that_have_gone_unused_for_longest() -> None:
    data = load_data("digits")
    cache = DataCache(2 * 4 * sum(part.inputs.numel() for part in (data.train, data.val, data.test)))
    for name in "ab":
        cache.put((name, ()), data)
    assert cache.get(("a", ())) is data
    cache.put(("c", ()), data)
    assert [cache.get((name, ())) is data for name in "abc"] == [True, False, True]


def test_the_cache_keeps_the_last_data_set_above_its_limit() -> None:
    data, cache = load_data("digits"), DataCache(1)
    cache.put(("a", ()), data)
    assert cache.get(("a", ())) is data
    cache.put(("b", ()), data)
    assert cache.get(("a", ())) is None and cache.get(("b", ())) is data


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    bunch, data = load_digits(), load_data("digits")
    inputs = torch.cat([part.inputs for part in (data.train, data.val, data.test)])
    assert sorted(inputs.flatten(1).mul(16).tolist()) == sorted(bunch.data.tolist())
    targets = torch.cat([part.targets for part in (data.train, data.val, data.test)])
    assert targets.bincount().tolist() == np.bincount(bunch.target).tolist()
