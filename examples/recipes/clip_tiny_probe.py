"""Measures what features of clip-tiny tell about a data set of small grey digits.

Command:   python examples/recipes/clip_tiny_probe.py [--encoder clip-tiny]
Time:      about one minute on one CPU core
Result:    a table: the encoder, the same network untrained, and the raw pixels
Method:    a data set is 1,000 scikit-learn digits under one transformation, seen through 5 random images of each
           class; its description is the mean feature of each class. Angle: ridge regression onto (cos, sin), fitted
           on every 15 degrees except 45, 135, 225 and 315, tested on these with other images. Kind: ridge
           regression onto the names of five transformations, fitted and tested on different images.
"""

import argparse

import numpy as np
import open_clip
import torch
from scipy import ndimage
from sklearn.datasets import load_digits
from torch import Tensor

from popgen.encoders._quiet import quiet
from popgen.encoders.images import ImageEncoder
from popgen.refs import asset

DRAWS = 12  # descriptions of each data set
HELD_OUT = (45, 135, 225, 315)
KINDS = {
    "plain": lambda image: image,
    "invert": lambda image: 1 - image,
    "blur": lambda image: ndimage.gaussian_filter(image, 0.8),
    "edges": lambda image: np.clip(np.hypot(ndimage.sobel(image, 0), ndimage.sobel(image, 1)) / 4, 0, 1),
    "mirror": lambda image: image[:, ::-1],
}


def main(name: str) -> None:
    trained = ImageEncoder.load(name)
    sources = {name: trained.features, "raw pixels": lambda images: images.flatten(1)}
    folder = asset("encoders", name)
    if folder is not None:
        torch.manual_seed(0)
        with quiet():
            bare = open_clip.create_model(f"local-dir:{folder}", load_weights=False).visual.eval()
        sources["untrained"] = ImageEncoder("untrained", bare, trained.dim).features
    digits = load_digits()
    pictures, labels = digits.images[:1000] / 16, digits.target[:1000]
    for source, features in sources.items():
        angles = {
            angle: features(_tensor([ndimage.rotate(p, angle, order=1, reshape=False) for p in pictures]))
            for angle in range(0, 360, 15)
        }
        kinds = {kind: features(_tensor([change(p) for p in pictures])) for kind, change in KINDS.items()}
        means, singles = (_angle_error(angles, labels, flat) for flat in (False, True))
        right = _kind_accuracy(kinds, labels)
        print(f"{source:12}  angle error {means:5.2f} degrees, over all classes {singles:5.2f}  kind {right:.1%}")


def _tensor(pictures: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).float()[:, None].clamp(0, 1)


def _describe(features: Tensor, labels: np.ndarray, rng: np.random.Generator, half: int, flat: bool) -> Tensor:
    """Mean feature of 5 images of each class, from the first or second half of the images; concatenated or averaged."""
    rows = np.arange(len(labels)) % 2 == half
    chosen = [features[rng.choice(np.flatnonzero(rows & (labels == c)), 5, replace=False)].mean(0) for c in range(10)]
    return torch.stack(chosen).mean(0) if flat else torch.cat(chosen)


def _angle_error(angles: dict[int, Tensor], labels: np.ndarray, flat: bool) -> float:
    rng = np.random.default_rng(0)
    fitted = [a for a in angles if a not in HELD_OUT]
    inputs = torch.stack([_describe(angles[a], labels, rng, 0, flat) for a in fitted for _ in range(DRAWS)])
    tests = torch.stack([_describe(angles[a], labels, rng, 1, flat) for a in HELD_OUT for _ in range(DRAWS)])
    turns = torch.tensor(np.repeat(fitted, DRAWS)).float().deg2rad()
    guess = _ridge(inputs, torch.stack([turns.cos(), turns.sin()], 1), tests, group=DRAWS)
    wrong = torch.atan2(guess[:, 1], guess[:, 0]).rad2deg() - torch.tensor(np.repeat(HELD_OUT, DRAWS))
    return ((wrong + 180) % 360 - 180).abs().mean().item()


def _kind_accuracy(kinds: dict[str, Tensor], labels: np.ndarray) -> float:
    rng = np.random.default_rng(0)
    inputs, tests = (
        torch.stack([_describe(f, labels, rng, half, True) for f in kinds.values() for _ in range(DRAWS)])
        for half in (0, 1)
    )
    names = torch.eye(len(kinds)).repeat_interleave(DRAWS, 0)
    return (_ridge(inputs, names, tests, group=1).argmax(1) == names.argmax(1)).float().mean().item()


def _ridge(inputs: Tensor, targets: Tensor, tests: Tensor, group: int) -> Tensor:
    """Predictions for `tests`; the penalty is the best of seven when each run of `group` rows is left out in turn."""
    centre, level = inputs.double().mean(0), targets.double().mean(0)
    x, y = inputs - centre, targets - level
    gram = x @ x.T
    best: tuple[float, Tensor] | None = None
    for share in (1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0):
        inverse = torch.linalg.inv(gram + share * gram.trace() / len(x) * torch.eye(len(x)))
        dual = inverse @ y
        left_out = [slice(row, row + group) for row in range(0, len(x), group)]
        error = sum(torch.linalg.solve(inverse[rows, rows], dual[rows]).square().sum().item() for rows in left_out)
        if best is None or error < best[0]:
            best = error, dual
    assert best is not None
    return (tests - centre) @ x.T @ best[1] + level


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="clip-tiny")
    main(parser.parse_args().encoder)
