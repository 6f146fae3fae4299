"""Draw one search: the best validation loss against evaluations, beside the rivals of its table.

    python examples/plot_run.py runs/cnn-s-digits-rotate-45-s0 --out images

Two seconds; needs matplotlib (`pip install ".[plots]"`). Writes run-light.svg and run-dark.svg, the same picture for pages with a
light and with a dark background. A point is a rival: how many evaluations it took, and its loss; its test accuracy stands at the
right. The same run gives the same bytes with the same version of matplotlib.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter  # noqa: E402

LIGHT = {"text": "#1f2328", "muted": "#656d76", "line": "#d0d7de", "generated": "#bc6c00", "search": "#0969da"}
DARK = {"text": "#e6edf3", "muted": "#8d96a0", "line": "#3d444d", "generated": "#e3a04f", "search": "#58a6ff"}
STYLE = {
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans", "Verdana"],  # DejaVu is the wider one, so labels fit in either
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "popgen",  # ids in the file do not depend on the process
}
GAP = 0.068  # between two labels, as a share of the axis


@dataclass(frozen=True)
class Run:
    """What is drawn: for each evaluation what was spent and the best candidate's loss, and the rows of the table."""

    title: str
    spent: list[float]
    losses: list[float]
    rows: list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder that `popgen search` wrote")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the pictures")
    parser.add_argument("--arch", help="which of the run's architectures; the first one where it is left out")
    options = parser.parse_args()
    run = read_run(options.run, options.arch)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, colours in {"light": LIGHT, "dark": DARK}.items():
        draw(run, colours, options.out / f"run-{name}.svg")
        print(options.out / f"run-{name}.svg")


def read_run(folder: Path, arch: str | None) -> Run:
    """The history of one architecture and its table; a run that is not finished has no table yet."""
    history, result = folder / "history.jsonl", folder / "result.json"
    if not (folder / "config.yaml").is_file() or not history.is_file():
        sys.exit(
            f"there is no run in {folder}\n"
            "a run's folder has config.yaml and history.jsonl\n"
            "`popgen search` prints the folder that it writes"
        )
    try:  # a line that a crash has torn is left out
        lines = [json.loads(line) for line in history.read_text().splitlines() if line.endswith("}")]
    except ValueError as error:
        sys.exit(f"{history} cannot be read\n{error}\nrestore it from a copy")
    records = [line for line in lines if "header" not in line]
    archs = list(dict.fromkeys(line["search"] for line in records))
    if not archs or arch not in (None, *archs):
        sys.exit(f"{folder} has no evaluations of {arch or 'any architecture'}\nit has: {', '.join(archs) or 'none'}")
    arch = arch or archs[0]
    results = json.loads(result.read_text())["results"] if result.is_file() else []
    found = next((one for one in results if one["arch"] == arch), None)
    if found is None:
        print(f"{folder} is not finished: its rivals are left out", file=sys.stderr)
    rows = [row for row in found["rows"] if math.isfinite(row["val_loss"])] if found else []
    rows = [row for row in rows if not row["name"].startswith("finetuned_")]  # they come after the search
    spent, losses = best_so_far([line for line in records if line["search"] == arch], rows)
    if not losses:
        sys.exit(f"every evaluation of {arch} in {folder} failed\nthere is no loss to draw\nsee {history}")
    return Run(f"{arch} on {found['data']}" if found else arch, spent, losses, rows)


def best_so_far(records: list[dict[str, Any]], rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Where the best candidate changes: evaluations spent until then, and its validation loss as the table has it.

    Candidates are compared by the loss that the search minimises, which has a penalty besides; looks at a part of the
    images cost their share, and are not compared.
    """
    total = math.ceil(sum(record["cost"] for record in records) - 1e-9)
    counted = next((row["evaluations"] for row in rows if row["name"] == "search"), total)
    spent, losses, best = [], [], math.inf
    cost = float(max(0, counted - total))  # what ranking a zoo's experts took before the search
    for record in records:
        cost += record["cost"]
        if record["loss"] is not None and record["share"] == 1 and record["loss"] < best:
            best = record["loss"]
            spent.append(cost)
            plain = record["metrics"].get("unpenalised_loss")
            losses.append(best if plain is None else plain)
    return ([*spent, cost], [*losses, losses[-1]]) if losses else ([], [])


def draw(run: Run, colours: dict[str, str], file: Path) -> None:
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(7.2, 3.7))
        figure.subplots_adjust(left=0.085, right=0.735, top=0.87, bottom=0.13)
        everything = [*run.losses, *(row["val_loss"] for row in run.rows)]
        if min(everything) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.margins(y=0.08)
        end = max(run.spent[-1], *(row["evaluations"] for row in run.rows)) if run.rows else run.spent[-1]
        axes.set_xlim(-0.01 * end, end)
        for row in run.rows:
            if row["name"] != "search":
                colour = colours["generated"] if row["name"].startswith("generated") else colours["muted"]
                axes.hlines(row["val_loss"], row["evaluations"], end, colour, linewidth=0.7, alpha=0.6)
                axes.plot(
                    row["evaluations"], row["val_loss"], "o", color=colour, markersize=3.2, zorder=3, clip_on=False
                )
        axes.step(run.spent, run.losses, where="post", color=colours["search"], linewidth=1.8)
        axes.plot(run.spent[-1], run.losses[-1], "o", color=colours["search"], markersize=4.5, clip_on=False)
        frame(axes, colours)
        label(axes, run.rows, colours)
        figure.text(0.012, 0.945, run.title, color=colours["text"], fontsize=10.5, weight="bold")
        figure.savefig(file, transparent=True, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def frame(axes: Axes, colours: dict[str, str]) -> None:
    """Two quiet axes, and their names."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(colours["line"])
    axes.tick_params(which="both", color=colours["line"], labelcolor=colours["muted"], labelsize=8)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("evaluations", color=colours["muted"], fontsize=8)
    axes.text(
        -0.112,
        1.035,
        "validation loss of the best so far",
        transform=axes.transAxes,
        color=colours["muted"],
        fontsize=8,
    )


def label(axes: Axes, rows: list[dict[str, Any]], colours: dict[str, str]) -> None:
    """Each row's name and test accuracy at the right, at the height of its loss, moved apart where they would overlap."""
    if not rows:
        return
    rows = sorted(rows, key=lambda row: row["val_loss"])
    axes.autoscale_view()  # else the limits are those of an empty axis until the picture is written
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform((0, row["val_loss"]))[1]) for row in rows]
    for row, height, place in zip(rows, heights, apart(heights, GAP), strict=True):
        name = row["name"]
        colour = colours["generated" if name.startswith("generated") else name if name == "search" else "muted"]
        weight = "bold" if name == "search" else "normal"
        axes.plot([1.003, 1.045], [height, place], color=colour, linewidth=0.7, transform=axes.transAxes, clip_on=False)
        style: dict[str, Any] = {"color": colour, "weight": weight, "fontsize": 8, "va": "center_baseline"}
        axes.text(1.055, place, name.replace("_", " "), transform=axes.transAxes, **style)
        accuracy = row["test_score"] if "test_score" in row else row["test_accuracy"]  # as earlier runs call it
        axes.text(1.395, place, f"{accuracy:.3f}", transform=axes.transAxes, ha="right", **style)
    axes.text(1.395, 1.035, "test accuracy", transform=axes.transAxes, ha="right", color=colours["muted"], fontsize=8)


def apart(heights: list[float], gap: float) -> list[float]:
    """The growing heights, moved as little as it takes for neighbours to be a gap apart: groups around their mean."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and bottom(groups[-1], gap) < bottom(groups[-2], gap) + gap * len(groups[-2]):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [bottom(group, gap) + gap * i for group in groups for i in range(len(group))]


def bottom(group: list[float], gap: float) -> float:
    """The lowest place of labels around the mean of their heights."""
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


if __name__ == "__main__":
    main()
