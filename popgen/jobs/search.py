"""`popgen search`: the main path of popgen.

Everything that can be refused is refused first (searching/checks.py). Then each architecture is searched (searching/arch.py): a population
is sampled, the engine in `search` refines it, and the best weights and a table are written.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from popgen import __version__
from popgen.audit.contamination import contamination, say_contamination
from popgen.cards.make import keep_card
from popgen.configs.search import SearchConfig
from popgen.hub.kinds import SEARCH
from popgen.jobs.parents import made_from, with_commits
from popgen.jobs.searching.arch import OnEvaluation, Run, search_arch
from popgen.jobs.searching.checks import Prepared, prepare, with_data_folder
from popgen.jobs.searching.details import Found
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.pools import cluster_address, joins_cluster
from search import RaySession

__all__ = ["Found", "prepare", "search", "search_in"]


def search(
    config: SearchConfig,
    out: str | None = None,
    resume: str | None = None,
    on_evaluation: OnEvaluation | None = None,
    say: Callable[[str], None] = print,
) -> list[Found]:
    """Search for weights of every architecture of `config`, and write a run folder.

    Args:
        out: the folder to write; None: one under ./runs, named after the settings.
        resume: the folder of a run to continue (its own settings stand in it; pass them as `config`).
        on_evaluation: called after every evaluation.
        say: called with one line for every decision that a user should know of.

    Raises:
        PopgenError: a name, shape or combination that does not fit, before any long work.
    """
    config = with_commits(with_data_folder(config), say)
    prepared = prepare(config, say)
    for text in prepared.data_remarks:
        say(f"{config.data}: {text}")
    seen = contamination(prepared.data, prepared.generator, prepared.zoo, config.data_dir)
    say_contamination(seen, prepared.data, say)
    with RaySession() as session:
        if joins_cluster(config):
            session.start(None, cluster_address(config))  # refused before a folder is made
        elif config.compute.workers not in (0, "auto"):
            session.start(int(config.compute.workers))
        folder = _open_folder(config, prepared, out, resume)
        say(f"run folder: {folder.path}")
        run = Run(config, prepared, folder, session, on_evaluation, say)
        try:
            found = [search_arch(run, one) for one in prepared.searches]
        except KeyboardInterrupt:
            say(f"what was evaluated is kept; continue with: popgen search --resume {folder.path}")
            raise
    found = [replace(one, details=replace(one.details, contamination=seen)) for one in found]
    folder.write_result({"popgen": __version__, "results": [one.to_json() for one in found]})
    keep_card(folder.path, SEARCH)
    return found


def search_in(config: SearchConfig, path: Path, say: Callable[[str], None] = lambda _: None) -> Found:
    """Search for weights of the one architecture of `config` in the folder `path`: a new run, or the one there, which goes on.

    A run whose folder holds all evaluations makes only its table again.
    """
    (path / "result.json").unlink(missing_ok=True)  # from here on it may stand for another budget
    if path.exists() and not (path / "history.jsonl").exists():
        shutil.rmtree(path)  # it ended before its first evaluation, perhaps in the middle of writing a file
    going_on = path.exists()
    [one] = search(config, None if going_on else str(path), str(path) if going_on else None, say=say)
    return one


def _open_folder(config: SearchConfig, prepared: Prepared, out: str | None, resume: str | None) -> RunFolder:
    """A new run folder, or the one to continue, with the settings and what they were applied to written into it."""
    recorded = _recorded(prepared)
    if resume is None:
        folder = RunFolder.create(config, out)
    else:
        folder = RunFolder.open(resume)
        before, then = folder.config()
        now = {**config.frozen_fields(), **recorded}
        if "groups_sha256" not in then:  # Runs of earlier versions recorded the number of images in each group alone.
            now.pop("groups_sha256", None)
        folder.check_same({**before.frozen_fields(), **then}, now)
    parents = made_from(prepared.generator, prepared.zoo, config.generator)
    beside = {"data_remarks": list(prepared.data_remarks), "versions": _versions(), "parents": parents}
    folder.write_config(config, {**recorded, **beside})
    return folder


def _versions() -> dict[str, str]:
    """The versions that figures may depend on, of the last session; the history has those of the engine's libraries."""
    return {"python": platform.python_version(), "torch": str(torch.__version__)}


def _recorded(prepared: Prepared) -> dict[str, Any]:
    """Hashes of what the search reads, and what was decided from it: none of it may change when the run is resumed."""
    first, generator, zoo = prepared.searches[0], prepared.generator, prepared.zoo
    recorded: dict[str, Any] = {"data_sha256": prepared.data.sha256}
    if generator is not None:
        recorded["generator_sha256"] = generator.sha256
    elif zoo is not None:
        recorded["zoo_sha256"] = zoo.sha256
    recorded["base_sha256"] = None if first.mask is None else first.mask.sha256
    recorded["decisions"] = {one.arch: {"head": one.fitness.head} for one in prepared.searches}
    if first.groups is not None:
        recorded["groups"] = first.groups.counts
        recorded["groups_sha256"] = first.groups.sha256
    return recorded
