"""Draws accuracy against overlap for every network of an audit, as SVG with a text alternative; needs matplotlib (`plots`)."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from popgen.audit.arms import Arm
from popgen.audit.verdict import Verdict
from popgen.files import write_bytes

_COLUMNS = 3
_LEGEND = 4.8  # inches that four columns of the legend take
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "popgen", "font.size": 8}
# Colours that people with colour-blindness tell apart (Okabe and Ito); markers say the same once more.
_LOOKS = {
    "generated": ("#D55E00", "o"),
    "training": ("#000000", "s"),
    "references": ("#000000", "s"),
    "held out": ("#666666", "D"),
    "noise": ("#0072B2", "x"),
    "average": ("#009E73", "^"),
    "aligned average": ("#009E73", "v"),
    "gaussian": ("#CC79A7", "+"),
    "latent noise": ("#56B4E9", "1"),
    "latent kde": ("#E69F00", "2"),
}


class Drawn(Protocol):
    """What is drawn in one panel."""

    @property
    def arch(self) -> str:
        """The architecture."""

    @property
    def data(self) -> str:
        """The data set."""

    @property
    def verdict(self) -> Verdict:
        """The verdict."""

    @property
    def all_arms(self) -> tuple[Arm, ...]:
        """The arms, each with its networks."""


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def write_plot(path: Path, audits: Sequence[Drawn]) -> Path:
    """Write one panel for each audit, and return the path. The same audits give the same bytes."""
    import matplotlib  # noqa: PLC0415 - an extra of the package
    from matplotlib.figure import Figure  # noqa: PLC0415

    columns = min(_COLUMNS, math.ceil(math.sqrt(len(audits))))
    rows = math.ceil(len(audits) / columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(max(3.4 * columns, _LEGEND), 3.0 * rows + 0.6), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for panel, one in zip(panels, audits, strict=False):
            _draw(panel, one)
        for panel in panels[len(audits) :]:
            panel.set_axis_off()
        labels = {label: handle for p in panels for handle, label in zip(*p.get_legend_handles_labels(), strict=True)}
        figure.legend(list(labels.values()), list(labels), loc="outside lower center", ncols=4, frameon=False)
        content = io.BytesIO()
        about = {"Title": "Accuracy against overlap of errors", "Description": alternative(audits), "Date": None}
        figure.savefig(content, format="svg", metadata=about)
    write_bytes(path, content.getvalue())
    return path


def alternative(audits: Sequence[Drawn]) -> str:
    """The figure in words: for each panel the verdict, and the mean accuracy and overlap of each arm."""
    texts = []
    for one in audits:
        arms = "; ".join(
            f"{a.name} {float(a.accuracy.mean()):.2f}, {float(a.overlap.mean()):.2f}" for a in one.all_arms
        )
        texts.append(f"{one.arch} for {one.data}: {one.verdict.word}. Mean accuracy and overlap: {arms}.")
    return " ".join(texts)


def _draw(panel: Any, one: Drawn) -> None:
    for arm in reversed(one.all_arms):
        colour, marker = _LOOKS[arm.kind]
        alone = arm.kind in ("generated", "training", "references", "held out")
        size, alpha = (14, 0.9) if alone else (10, 0.45)
        panel.scatter(
            arm.overlap, arm.accuracy, s=size, c=colour, marker=marker, alpha=alpha, linewidths=0.8, label=arm.kind
        )
    panel.set_title(f"{one.arch} for {one.data}: {one.verdict.word}")
    panel.set_xlabel("overlap of errors with a training checkpoint")
    panel.set_ylabel("test accuracy")
    panel.set_xlim(-0.03, 1.03)
