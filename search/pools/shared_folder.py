"""Whether a folder is shared by all nodes of a Ray cluster: what one writes there, the others must see."""

from __future__ import annotations

import uuid
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import SearchError


def check_shared(folder: str | Path) -> None:
    """Refuse a folder that a node of the cluster does not share with this process. Ray must be running.

    Raises:
        SearchError: names the node.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    token, folder = uuid.uuid4().hex, Path(folder).absolute()
    if len(nodes) < 2:
        return
    marker = folder / f".shared-{token}"
    marker.write_text(token)
    try:
        answers = [
            _sees.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                str(marker), number
            )
            for number, node in enumerate(nodes)
        ]
        for number, (node, said) in enumerate(zip(nodes, ray.get(answers), strict=True)):
            answer = marker.with_name(f"{marker.name}-{number}")
            if said is None and answer.exists():
                continue
            where = "it" if said is None else "there"
            raise SearchError(
                f"{folder} is not shared by all nodes of the Ray cluster\n"
                f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}): "
                f"{said or f'what {where} wrote cannot be seen here'}\n"
                "use a folder on storage that all nodes mount under the same path, such as NFS"
            )
    finally:
        for file in folder.glob(f"{marker.name}*"):
            file.unlink(missing_ok=True)


@ray.remote(num_cpus=0)
def _sees(marker: str, number: int) -> str | None:
    """Read the marker and write an answer beside it; returns what went wrong."""
    try:
        Path(marker).read_text()
        Path(f"{marker}-{number}").write_text("")
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return None
