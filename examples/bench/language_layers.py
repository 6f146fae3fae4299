"""Better language models from a few layers: the search and its rivals on domains that the zoo has never seen.

    python examples/bench/language_layers.py --base lm:stories260K/stories260K.bin --text text_lm --held-out plots drama \\
        --generator zoo_specs/language_layers.yaml

The most informative matrices of the base (a quarter of each kind, `popgen layers`) are fine-tuned on every text of the folder that is
not held out; each training leaves three states in the zoo. On each held-out text every row then has the first blocks of the training
and validation splits and a budget of forward passes over the latter, of which a step of SGD takes three. Beside the rows at equal cost
stands a search with two thirds of the budget and as many steps as the rest pays, and what these steps alone give. With --generator, a
generator is trained on each zoo by the settings of a spec; a tasks.json beside the texts describes them, which is its condition. Perplexity on the test split, which is looked at once
a row: mean over the seeds, each with a zoo of its own, and the standard deviation between them.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import popgen
from popgen.audit.layers import layers
from popgen.configs.generator import read_spec
from popgen.configs.layers import LayersConfig
from popgen.configs.spec import ZooSpec
from popgen.generator.training import train_generator
from popgen.zoo import Zoo

ARCH = "model"  # its name in the zoo
NAMED = 10  # candidates of a generator beside its samples: the base, four conditions at two strengths, and the mean
TRAINED = ("base", "average_of_all", "generated_both")  # rows that are shown after the steps of SGD alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="the language model, lm:BASE")
    parser.add_argument(
        "--text", type=Path, required=True, help="a folder with a text NAME.txt or NAME.txt.gz of each domain"
    )
    parser.add_argument("--held-out", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--generator", help="a spec, by whose section `generator` one is trained on each zoo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--evaluations", type=int, default=150)
    parser.add_argument("--context", type=int, default=128, help="tokens of a block")
    parser.add_argument("--block", type=int, default=200, help="bytes of a block")
    parser.add_argument("--blocks", type=int, default=16, help="of a held-out text for training, and for validation")
    parser.add_argument("--every", type=int, default=15, help="steps between two states that a fine-tuning leaves")
    parser.add_argument("--epochs", type=int, default=1, help="of fine-tuning on each domain of the zoo")
    parser.add_argument("--lr", type=float, default=0.03, help="peak learning rate of SGD")
    parser.add_argument("--out", type=Path, default=Path("language_layers"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = layers(LayersConfig(base=options.base, top="25%")).chosen
    print(f"{len(parts)} matrices: {', '.join(parts)}", flush=True)
    found: dict[str, dict[str, list[float]]] = {}  # test perplexities of each row on each held-out text
    for seed in options.seeds:
        zoo = build(options, parts, seed)
        generator = None if options.generator is None else train(options, zoo, seed)
        for name in options.held_out:
            for row, perplexity in rows(options, parts, zoo, generator, name, seed):
                print(f"{name}, seed {seed}: {row} {perplexity:.2f}", flush=True)
                found.setdefault(row, {}).setdefault(name, []).append(perplexity)
    print(f"| test perplexity | {' | '.join(options.held_out)} |\n|---|{'---|' * len(options.held_out)}")
    for row, by_text in found.items():
        print(f"| {row.replace('_', ' ')} | {' | '.join(map(in_words, by_text.values()))} |")


def texts(folder: Path) -> dict[str, Path]:
    """The text files of a folder by their names without .txt and .gz."""
    return {path.name.partition(".")[0]: path for path in sorted([*folder.glob("*.txt"), *folder.glob("*.txt.gz")])}


def build(options: argparse.Namespace, parts: list[str], seed: int) -> Path:
    """Fine-tune the parts of the base on every text that is not held out; returns the zoo's folder."""
    began, folder = time.process_time(), options.out / f"zoo-s{seed}"
    names = [name for name in texts(options.text) if name not in options.held_out]
    spec = ZooSpec.model_validate(
        {
            "name": "domains",
            "archs": [{"name": ARCH, "like": f"{options.base}/context:{options.context}"}],
            "data": [f"lines:{texts(options.text)[name]}/block:{options.block}" for name in names],
            "seeds": [seed],
            "start": "pretrained",
            "recipe": {
                "epochs": options.epochs,
                "batch": 16,
                "lr": 0.003,
                "weight_decay": 0.0,
                "parts": parts,
                "snapshots": 3,
                "snapshot_every": options.every,
            },
        }
    )
    popgen.build_zoo(spec, folder, workers=0, progress=False)
    print(f"zoo of seed {seed}: {', '.join(names)}, {time.process_time() - began:.0f} CPU seconds", flush=True)
    return folder


def train(options: argparse.Namespace, zoo: Path, seed: int) -> Path:
    """Train a generator on the zoo; returns its folder."""
    began, folder = time.process_time(), options.out / f"generator-s{seed}"
    if not (folder / "config.json").exists():
        _, config = read_spec(options.generator, {"generator.seed": seed})
        train_generator(Zoo.open(str(zoo)), config, folder, lambda *_: None)
        print(f"generator of seed {seed}: {time.process_time() - began:.0f} CPU seconds", flush=True)
    return folder


def rows(
    options: argparse.Namespace, parts: list[str], zoo: Path, generator: Path | None, name: str, seed: int
) -> Iterator[tuple[str, float]]:
    """The test perplexity of every row on a held-out text."""
    steps = max(1, round(options.evaluations / 9))  # a third of the budget, at three passes a step
    shorter = {"evaluations": options.evaluations - 3 * steps, "finetune": finetune(options, [steps])}
    searches: dict[str, dict[str, Any]] = {
        "search, mix": {"space": "mix", "baselines": "all"},
        "search, principal": {"space": "principal", "sigma": 0.5},
        "search, mix, then SGD": {"space": "mix", "baselines": "standard", **shorter},
        "search, principal, then SGD": {"space": "principal", "sigma": 0.5, **shorter},
    }
    if generator is not None:
        latent = {"generator": str(generator), "baselines": "none", "experts": 12}
        samples = options.evaluations - NAMED
        searches |= {
            "generated, best of all": {**latent, "experts": 0, "population": samples},
            "search, latent": latent,
            "search, latent, then SGD": {**latent, **shorter},
        }
    for label, own in searches.items():
        began = time.process_time()
        settings: dict[str, Any] = {
            "evaluations": options.evaluations,
            "finetune": finetune(options, []),
            "baselines": "none",
            "experts": 12,
            "prior_width": 0.0,  # some blocks of text hold thousands of tokens, which need no prior
            "seed": seed,
            "compute": {"workers": 0},
        }
        [found] = popgen.search(
            ARCH,
            f"lines:{texts(options.text)[name]}/block:{options.block}/blocks:{options.blocks}",
            zoo=str(zoo),
            parts=parts,
            base=options.base,
            out=str(options.out / f"{name}-s{seed}-{re.sub('[^a-zA-Z]+', '-', label)}"),
            **{**settings, **own},
        )
        print(f"{name}, seed {seed}: {label}, {time.process_time() - began:.0f} CPU seconds", flush=True)
        for row in found.rows:
            if row.name == "search":
                yield label, row.finetuned[-1].test_score if row.finetuned else row.test_score
            elif not row.finetuned and label != "generated, best of all":
                yield row.name, row.test_score
            elif row.finetuned and row.name in TRAINED:
                yield f"{row.name}, then {steps} steps of SGD", row.finetuned[-1].test_score


def finetune(options: argparse.Namespace, steps: list[int]) -> dict[str, Any]:
    """The settings of SGD: all blocks are one step."""
    return {"mode": "never", "epochs": steps, "batch": options.blocks, "lr": options.lr, "parts": True}


def in_words(values: list[float]) -> str:
    """The mean, and the standard deviation where there are several."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


if __name__ == "__main__":
    main()
