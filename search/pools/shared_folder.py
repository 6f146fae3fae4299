"""Check that all nodes of a Ray cluster share a folder: each must see the files that the others write there."""

from __future__ import annotations

import uuid
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import SearchError


def check_shared(folder: str | Path) -> None:
    """Refuse a folder that a node of the cluster does not share with this process; Ray must be running.

    Raises:
        SearchError: a node does not share the folder; the message names the node.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    token, folder = uuid.uuid4().hex, Path(folder).absolute()
    if len(nodes) < 2:
        return
    marker = folder / f".shared-{token}"
    marker.write_text(token)
    try:
        answers = [
            _answer_marker.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(marker), number)
            for number, node in enumerate(nodes)
        ]
        for number, (node, error) in enumerate(zip(nodes, ray.get(answers), strict=True)):
            answer = marker.with_name(f"{marker.name}-{number}")
            if error is None and answer.exists():
                continue
            raise SearchError(
                f"{folder} is not shared by all nodes of the Ray cluster\n"
                f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}): "
                f"{error or 'the file that it wrote cannot be seen here'}\n"
                "use a folder on storage that all nodes mount under the same path, such as NFS"
            )
    finally:
        for file in folder.glob(f"{marker.name}*"):
            file.unlink(missing_ok=True)


@ray.remote(num_cpus=0)
def _answer_marker(marker: str, number: int) -> str | None:
    """Read the marker and write an answer beside it; return the error, None if there was none."""
    try:
        Path(marker).read_text()
        Path(f"{marker}-{number}").write_text("")
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return None
