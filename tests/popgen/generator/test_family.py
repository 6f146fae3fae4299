"""Data sets outside a generator's family: distances against closed forms, the verdicts, and the shipped generators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from popgen.data import load_data
from popgen.errors import BrokenFile
from popgen.generator import Generator
from popgen.generator.family.look import look, passes_per_second, reference_of
from popgen.generator.family.reference import FILE, Distance, Reference, read_reference, summary, write_reference
from popgen.generator.family.verdict import After, Cost, Family, Reached

# The README's: held out from the zoo and from every step of training.
INSIDE = ["rotate:45", "rotate:135", "rotate:225", "rotate:315", "mirror/noise", "rotate:75/invert", "rotate:255/blur"]
INSIDE += ["rotate:90/invert/blur"]
FAR = ["invert/mirror/rotate:200", "blur:3", "pixelate:4", "contrast:0.1"]


@pytest.fixture(scope="module")
def digits() -> Generator:
    return Generator.from_pretrained("digits")


def points(seed: int, n: int = 6, width: int = 9) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 1000))
def test_the_distance_is_the_minimum_over_mixtures(seed: int) -> None:
    """Ridge regression by least squares on extended rows (Hoerl and Kennard, 1970) gives the same."""
    reference, point = Reference(points(seed), "images"), points(seed + 5000, 1)[0]
    centred = (reference.points - reference.points.mean(0)).double()
    root = (0.1 * centred.square().sum(1).mean()).sqrt()
    rows = torch.cat([centred.T, root * torch.eye(6, dtype=torch.float64)])
    wanted = torch.cat([(point - reference.points.mean(0)).double(), torch.zeros(6, dtype=torch.float64)])
    shares = torch.linalg.lstsq(rows, wanted[:, None], driver="gelsd").solution[:, 0]
    expected = float((rows @ shares - wanted).square().sum())
    assert float(reference.squared_distance(point)) == pytest.approx(expected, rel=1e-4)


def test_own_distances_leave_each_data_set_out() -> None:
    reference = Reference(points(0), "images")
    centred = (reference.points - reference.points.mean(0)).double()
    noise = 0.1 * centred.square().sum(1).mean()
    for i, own in enumerate(reference.own_squares().tolist()):
        others = torch.cat([reference.points[:i], reference.points[i + 1 :]]).double()
        differences, target = others - others.mean(0), reference.points[i].double() - others.mean(0)
        system = differences @ differences.T + noise * torch.eye(5, dtype=torch.float64)
        seen = differences @ target
        assert own == pytest.approx(float(target @ target - seen @ torch.linalg.solve(system, seen)), rel=1e-6)


def test_noise_brings_a_small_data_set_closer_and_never_farther() -> None:
    reference, far = Reference(points(1), "images"), 5 * points(2, 1)[0]
    sure, noisy = reference.distance(far), reference.distance(far, noise=500.0)
    assert sure.share == 1.0 and sure.is_far
    assert noisy.ratio < sure.ratio and not noisy.is_far


def test_equal_training_data_sets_make_anything_else_far() -> None:
    same = Reference(torch.ones(4, 3), "images")
    assert same.distance(torch.zeros(3)).is_far and same.distance(torch.ones(3)).ratio == 0


def test_a_summary_has_mean_and_deviation_of_each_feature() -> None:
    features = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    found, error = summary(features)
    assert found.tolist() == [2.0, 5.0, 1.0, 0.0] and error == pytest.approx(1.5 / 2)
    of_classes = reference_of([[features[:1], features[1:]]] * 3)
    assert of_classes is not None and torch.equal(of_classes.points, found.expand(3, -1))
    assert reference_of([[features]] * 2) is None


def test_the_file_is_read_as_it_was_written_and_refused_where_it_does_not_fit(tmp_path: Path) -> None:
    assert read_reference(tmp_path, 4) is None
    write_reference(None, tmp_path)
    assert not (tmp_path / FILE).exists()
    write_reference(Reference(points(0, 5, 8).half().float(), "images"), tmp_path)
    found = read_reference(tmp_path, 4)
    assert found is not None and torch.equal(found.points, points(0, 5, 8).half().float())
    with pytest.raises(BrokenFile, match="the summaries are not lists of 10 finite numbers"):
        read_reference(tmp_path, 5)
    save_file({"other": torch.zeros(1)}, tmp_path / FILE)
    with pytest.raises(BrokenFile, match=r"cannot be read(.|\n)*Delete it: distances are then measured by the learned"):
        read_reference(tmp_path, 4)
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(BrokenFile):
        read_reference(tmp_path, 4)


def family(ratio: float, share: float = 1.0, known: tuple[float, ...] = (0.95, 0.97, 0.98)) -> Family:
    return Family("mine", Distance("images", ratio, share, 20), known, (10, 10), Cost(1000, 1000.0))


def after(search: float, zoo: float | None) -> After:
    return After(Reached("search", search, 0.01), None if zoo is None else Reached("best_zoo", zoo, 0.01))


def test_what_is_told_before() -> None:
    assert family(1.2).before_text() == family(2.0, share=0.95).before_text() == ""
    assert family(2.44).before_text() == (
        "mine is outside what the generator was trained on: its images are farther from every mixture of its 20 training data sets than "
        "all of those are from the others (2.4 times their median). Expect less than on those (median 0.970); training is the better "
        "way: 10 epochs over its 1,000 training images (--finetune-epochs 10) take about 30 seconds here"
    )
    embedded = replace(family(3.0), distance=Distance("embedding", 3.0, 0.995, 200), known=())
    assert "its embedding is farther" in embedded.before_text() and "than 99 % of those" in embedded.before_text()
    assert "Expect less than on those; training" in embedded.before_text()


@pytest.mark.parametrize(
    ("ratio", "search", "zoo", "told", "words"),
    [
        (2.0, 0.50, 0.47, True, "where the networks that the generator learnt from have 0.950 to 0.980"),
        (1.0, 0.50, 0.47, True, "it gained 0.030 ± 0.014 over best_zoo;|, where the networks"),
        (2.0, 0.93, 0.92, True, "it gained 0.010 ± 0.014 over best_zoo, within noise. Training is the better way"),
        (2.0, 0.93, 0.50, False, "looked far from the training data sets, but the search reached 0.930"),
        (2.0, 0.93, None, False, "looked far"),
        (1.0, 0.93, 0.92, False, ""),
        (1.0, 0.80, 0.80, False, ""),  # .78 of the way from guessing, but within its error of the limit
    ],
)
def test_what_is_told_after(ratio: float, search: float, zoo: float | None, told: bool, words: str) -> None:
    one = replace(family(ratio), after=after(search, zoo))
    assert one.is_outside is told and any(part in one.after_text() for part in words.split("|"))
    assert (one.after_text() == "") == (words == "")
    found = one.to_json()
    assert found["outside"] is found["told_after"] is told and found["told_before"] is (ratio > 1.5)


def test_accuracies_of_other_numbers_of_classes_are_compared_above_guessing() -> None:
    halves = replace(family(1.0), classes=(10, 2), after=after(0.75, None))
    assert halves.is_low and not replace(halves, known=()).is_low  # .75 of two classes is half of the way
    assert not replace(halves, after=after(0.95, None)).is_low


@pytest.mark.slow  # seconds
def test_held_out_digits_are_inside_and_far_ones_are_told(digits: Generator) -> None:
    assert digits.reference is not None and len(digits.reference.points) == 276  # 26 of the zoo, 250 tasks
    weights = digits.decode("mlp-s", torch.zeros(1, *digits.latent_shape))[0]

    def told(name: str) -> bool:
        found = look(digits, "mlp-s", load_data(f"digits/{name}"), digits.spec("mlp-s"), weights)
        assert found is not None and found.distance.measure == "images"
        return found.distance.is_far

    assert [name for name in INSIDE if told(name)] == []
    assert [name for name in FAR if not told(name)] == []
    assert not told("rotate:45/labels:50")


def test_some_of_the_classes_are_compared_by_their_embedding(digits: Generator) -> None:
    """The mean features of three digits are far from those of ten, whatever the rotation."""
    data, weights = load_data("digits/rotate:45/classes:3+5+8"), torch.zeros(digits.spec("mlp-s").size)
    found = look(digits, "mlp-s", data, digits.spec("mlp-s"), weights)
    assert found is not None and found.distance.measure == "embedding" and not found.distance.is_far


def test_a_generator_without_summaries_compares_embeddings(digits: Generator) -> None:
    data, weights = load_data("digits/rotate:45"), torch.zeros(digits.spec("mlp-s").size)
    kept, digits.reference = digits.reference, None
    try:
        found = look(digits, "mlp-s", data, digits.spec("mlp-s"), weights)
    finally:
        digits.reference = kept
    assert found is not None and found.distance.measure == "embedding" and found.distance.data_sets == 26
    assert not found.distance.is_far and passes_per_second(digits.spec("mlp-s"), data, weights) > 100


def test_a_search_and_its_report_and_generate_say_what_they_found(popgen: Any, here: Path) -> None:
    far = ("--arch", "mlp-s", "--data", "digits/blur:3/labels:100", "--out")
    searched = popgen("search", *far, "run", "--evaluations", 20, "--baselines", "none", "--workers", 0, "--json")
    found = searched.results[0]["details"]["family"]
    assert found["told_before"] and found["before"] in searched.err.replace("\n", " ")
    assert found["outside"] is found["far_below_training"] is True and found["best_of_zoo"] is None
    assert "is outside what the generator knows: the search reached" in found["after"]
    assert popgen("report", "run", "--json").code == 0
    assert f"Data set {found['after'][:40]}" in (here / "run" / "report.html").read_text()
    generated = popgen("generate", *far, "made", "-n", 1, "--json")
    [network] = generated.json["networks"]
    assert network["family"]["before"] and network["family"]["told_after"] is None
