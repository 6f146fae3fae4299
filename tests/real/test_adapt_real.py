"""The shipped generator of shifts on real images. Skipped where the files are absent."""

from __future__ import annotations

from pathlib import Path

import pytest

import popgen

REAL = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not REAL.exists(), reason="needs images of CIFAR-10"),
]


@pytest.mark.parametrize(
    ("data", "base", "gain"),
    [
        (f"folder:{REAL / 'cifar10_jpeg'}", 0.813, 0.02),
        (f"npz:{REAL / 'cifar10' / 'cifar10.npz'}/noise:0.18", 0.158, 0.4),
        (f"npz:{REAL / 'cifar10' / 'cifar10.npz'}", 0.915, -0.01),
    ],
    ids=["JPEG files", "noise", "as they are"],
)
def test_the_chosen_network_gains_where_there_is_something_to_gain(
    tmp_path: Path, data: str, base: float, gain: float
) -> None:
    """The accuracies of the published network are those that it has elsewhere; the standard error of a gain is below .01."""
    made = popgen.adapt("resnet20", data, str(tmp_path / "out"), images=200)
    accuracy = {row.name: row.test_accuracy or 0.0 for row in made.rows}
    assert accuracy["base"] == pytest.approx(base, abs=0.003)
    assert accuracy["chosen"] > accuracy["base"] + gain
