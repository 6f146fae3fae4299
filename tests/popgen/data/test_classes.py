"""Classes match if their names are equal but for case, punctuation and synonyms; all other classes stay apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popgen.archs import ArchSpec, arch_config
from popgen.data import DataSet, load_data
from popgen.data.classes import canonical, match_classes, renamed_classes
from popgen.errors import BadInput
from popgen.fitness import make_fitness

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def named(*classes: str) -> DataSet:
    """The first digits under other class names, as many as there are names."""
    digits = load_data("digits/classes:" + "+".join(map(str, range(len(classes)))))
    return replace(digits, name="renamed", classes=classes)


def test_stl10_in_cifar10() -> None:
    assert match_classes(STL10, CIFAR10) == [0, 2, 1, 3, 4, 5, 7, None, 8, 9]
    assert renamed_classes(STL10, CIFAR10) == {"car": "automobile"}


@pytest.mark.parametrize(
    ("wanted", "known", "indices"),
    [
        (["Cat", "DOG"], ["dog", "cat"], [1, 0]),
        (["fire_truck", "motor-bike"], ["motor bike", "fire truck"], [1, 0]),
        (["0", "one", "2 - two"], ["0 - zero", "1", "2"], [0, None, 2]),
        (["car"], ["car", "automobile"], [0]),  # an equal name goes before a synonym
        (["auto"], ["car", "automobile"], [None]),  # both known classes are synonyms
        (["car", "automobile"], ["automobile", "cat"], [None, 0]),  # one known class cannot match two wanted ones
        (["car", "Car"], ["automobile"], [None, None]),
        (["ship"], ["boat"], [None]),
        (["monkey"], CIFAR10, [None]),
        (["+", "-"], ["-", "+"], [1, 0]),  # names of punctuation only match if they are equal
        (["C+", "C-", "C"], ["c -", "c +"], [1, 0, None]),
        (["C++", "c#"], ["C", "C"], [None, None]),
        (["<5", ">5", "5"], ["> 5", "< 5"], [1, 0, None]),
        (["-1", "+1", "1"], ["1", "\u22121"], [1, None, 0]),  # U+2212 is a minus sign
        (["x-ray", "chest \u2014 upright"], ["Chest, upright", "X ray"], [1, 0]),  # dashes between words
        (["crane"], ["crane", "crane"], [None]),
        (["crane", "crane", "hen"], ["crane", "crane", "hen"], [None, None, 2]),
        (["crane", "crane"], ["crane", "hen"], [None, None]),
        (["Crane"], ["crane", "crane"], [None]),
    ],
)
def test_matches(wanted: list[str], known: list[str], indices: list[int | None]) -> None:
    assert match_classes(wanted, known) == indices


@given(st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=8), st.randoms())
def test_equal_names_always_match_and_no_index_is_taken_twice(names: list[str], random: object) -> None:
    shuffled = sorted(names, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert match_classes(shuffled, names) == [names.index(name) for name in shuffled]
    found = match_classes(names, list(set(map(canonical, names))))
    indices = [index for index in found if index is not None]
    assert len(indices) == len(set(indices))


def test_a_head_is_remapped_by_synonyms() -> None:
    classes = CIFAR10
    spec = ArchSpec.from_config("mlp-s")
    three = named("aeroplane", "Bird", "car")
    fitness = make_fitness(spec, three, classes)
    assert (fitness.head, fitness.head_rows) == ("remap", (0, 2, 1))
    same_order = named("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry")
    assert make_fitness(spec, same_order, classes).head == "keep"


def test_a_data_set_with_doubled_class_names_keeps_the_head_of_its_own_networks_only() -> None:
    spec, names = ArchSpec.from_config("mlp-s"), ("crane", "crane", *CIFAR10[2:])
    assert make_fitness(spec, named(*names), names).head == "keep"
    assert make_fitness(spec, named(*names[::-1]), names).head == "refit"


def test_a_head_with_unknown_classes_is_refitted_and_not_remapped() -> None:
    spec, data = ArchSpec.from_config(replace(arch_config("mlp-s"), name="mlp-10")), named(*STL10)
    assert make_fitness(spec, data, CIFAR10).head == "refit"
    with pytest.raises(
        BadInput, match="1 classes of 'renamed' are unknown to the network: monkey\nnearest known to 'monkey'"
    ):
        make_fitness(spec, data, CIFAR10, head="remap")
