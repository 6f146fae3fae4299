"""The subsets `classes:`, `shots:` and `labels:` of a data set's name keep the right classes and images."""

from __future__ import annotations

import pytest
import torch

from popgen.data import load_data
from popgen.data.load import check_data_name, split_name
from popgen.data.subsets import class_indices, label_indices
from popgen.errors import BadInput, PopgenError
from popgen.generator import Generator


def test_classes_are_kept_and_renumbered_in_every_split() -> None:
    whole, some = load_data("digits/rotate:45"), load_data("digits/rotate:45/classes:8+3")
    assert some.classes == ("8", "3")
    for split in ("train", "val", "test"):
        before, after = getattr(whole, split), getattr(some, split)
        for label, digit in enumerate((8, 3)):
            assert torch.equal(after.inputs[after.targets == label], before.inputs[before.targets == digit])
        assert len(after) == int(((before.targets == 8) | (before.targets == 3)).sum())


def test_shots_are_the_same_images_under_every_name() -> None:
    one, other = load_data("digits/classes:3+5/shots:4"), load_data("digits/shots:4/classes:7+5+3")
    assert torch.equal(one.train.inputs[one.train.targets == 0], other.train.inputs[other.train.targets == 2])
    more = load_data("digits/classes:3+5/shots:9")
    assert torch.equal(more.train.inputs[:4], one.train.inputs[:4])  # more shots add images to the same ones
    turned = load_data("digits/classes:3+5/shots:4/rotate:180").train.inputs
    assert torch.allclose(turned, one.train.inputs.flip(-1, -2), atol=1e-6)
    assert not torch.equal(load_data("digits/classes:3+5/shots:4@1").train.inputs, one.train.inputs)
    assert one.train.targets.bincount().tolist() == [4, 4]
    assert len(one.val) == len(load_data("digits/classes:3+5").val)  # shots do not reduce the validation split


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("digits/classes:3", ["'classes:3'", "two or more different classes", "classes:3+5+8"]),
        ("digits/classes", ["'classes'", "two or more"]),
        ("digits/classes:3+3", ["'classes:3+3'", "named once"]),
        ("digits/shots", ["'shots'", "shots:5@7"]),
        ("digits/shots:0", ["'shots:0'", "1 or more"]),
        ("digits/shots:5@x", ["'shots:5@x'", "shots:5@7"]),
        ("digits/labels:1", ["'labels:1'", "is not a number of labelled examples in all", "2 or more", "labels:64@7"]),
        ("digits/labels:8@", ["'labels:8@'", "behind an @ draws other examples"]),
        ("digits/shots:2/labels:20", ["'shots:2' and 'labels:20' both say how many", "Give one."]),
        ("digits/shts:5", ["'shts'", "nearest known: shots"]),
    ],
)
def test_a_form_that_is_refused_before_loading(name: str, pieces: list[str]) -> None:
    with pytest.raises(PopgenError) as caught:
        check_data_name(name)
    assert all(piece in str(caught.value) for piece in pieces), str(caught.value)


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("digits/classes:3+eight", ["class of 'digits'", "'eight'", "0 to 9"]),
        ("digits/shots:500", ["'shots:500'", "training examples", "Ask for fewer"]),
    ],
)
def test_a_subset_that_the_data_set_does_not_have(name: str, pieces: list[str]) -> None:
    with pytest.raises(PopgenError) as caught:
        load_data(name)
    assert all(piece in str(caught.value) for piece in pieces), str(caught.value)


def test_subsets_are_split_off_a_name() -> None:
    assert split_name("digits/rotate:45/classes:1+2/shots:3") == ("digits", ["rotate:45", "classes:1+2", "shots:3"])


def test_a_condition_of_few_images_and_known_classes() -> None:
    generator = Generator.from_pretrained("digits")
    whole = generator.mean_embedding("mlp-s", load_data("digits/rotate:90"))
    few = generator.condition("mlp-s", load_data("digits/rotate:90/shots:1")).data
    other = generator.condition("mlp-s", load_data("digits/invert/shots:1")).data
    assert (few - whole).norm() < (other - whole).norm()
    # The generator finds known classes by name, so that their order in the data set does not matter.
    one, two = (generator.condition("mlp-s", load_data(f"digits/classes:{c}/shots:1")).data for c in ("3+8", "8+3"))
    assert torch.allclose(one, two, atol=1e-5)


def test_a_name_that_several_classes_have_is_refused() -> None:
    with pytest.raises(BadInput, match="several classes of 'birds' are called 'crane'\nthey have the numbers 0, 1"):
        class_indices("classes:crane+hen", ("crane", "crane", "hen"), "birds")
    assert class_indices("classes:1+hen", ("crane", "crane", "hen"), "birds") == [1, 2]


def test_few_labels_are_both_train_and_val() -> None:
    whole, few = load_data("digits"), load_data("digits/labels:30")
    assert few.val is few.train and len(few.train) == 30
    assert few.train.targets.bincount().tolist() == [3] * 10
    assert torch.equal(few.test.inputs, whole.test.inputs)
    assert few.remarks == (
        "30 labelled images in all ("
        + ", ".join(f"{digit} 3" for digit in range(10))
        + "); train and val are both these",
    )
    rows = {row.numpy().tobytes() for row in whole.train.inputs}
    assert all(row.numpy().tobytes() in rows for row in few.train.inputs)
    for behind in ("rotate:45", "classes:3+5", "style:invert:0.5"):
        changed = load_data(f"digits/labels:30/{behind}")
        assert changed.val is changed.train, behind


def test_few_labels_are_among_more_of_the_same_draw() -> None:
    few, more, other = (load_data(f"digits/labels:{text}").train.inputs for text in ("16", "64", "16@1"))
    assert torch.equal(more[:16], few)
    assert not torch.equal(other, few)


def test_few_labels_have_every_class_and_then_their_proportions() -> None:
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    classes = ("most", "some", "one")
    counts = {
        n: labels[label_indices(f"labels:{n}", labels, classes, "x")].bincount(minlength=3).tolist()
        for n in (3, 12, 100)
    }
    assert counts == {3: [1, 1, 1], 12: [10, 1, 1], 100: [90, 9, 1]}
    for n in (2, 101):
        with pytest.raises(BadInput) as caught:
            label_indices(f"labels:{n}", labels, classes, "x")
        assert str(caught.value) == (
            f"'labels:{n}' does not fit 'x'\n"
            "it has 100 training examples of 3 classes, and one of each class is the least\nAsk for 3 to 100."
        )
