"""Model soups: averages of all experts, or of those that help (Wortsman et al., arXiv 2203.05482)."""

from __future__ import annotations

import torch

from popgen.merging.given import Merged, Merging


def uniform_soup(given: Merging) -> Merged:
    """The average of all experts."""
    return Merged(given.finished(given.experts.mean(0)), f"average of {len(given.experts)}", passes=given.passes)


def greedy_soup(given: Merging) -> Merged:
    """Experts are added in the order of their scores, and an expert stays if the soup is not worse with it (recipe 1 of the paper).

    The first soup is the best expert as it is, so that the result never scores below it.
    """
    scores = [given.scored(flat) for flat in given.experts]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    soup, flat, best, tried = order[:1], given.experts[order[0]], scores[order[0]], 0
    for expert in order[1:]:
        candidate = given.finished(given.experts[torch.tensor([*soup, expert])].mean(0))
        tried, score = tried + 1, given.scored(candidate)
        if score >= best:
            soup, flat, best = [*soup, expert], candidate, score
    text = f"average of {len(soup)} of {len(scores)}" if len(soup) > 1 else "the best expert alone"
    return Merged(flat, text, len(scores) + tried, tried * given.passes)
