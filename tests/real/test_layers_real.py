"""The ranking of layers of published networks. Skipped where the files are absent."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from popgen.audit.layers import layers
from popgen.configs.layers import LayersConfig
from popgen.zoo.imports.loading import read_content

REAL = Path(__file__).parents[3] / "shared" / "data" / "checkpoints"

pytestmark = [pytest.mark.real, pytest.mark.skipif(not REAL.exists(), reason="needs the published checkpoints")]


def test_a_published_resnet_has_signal_in_all_its_convolutions(tmp_path: Path) -> None:
    state = read_content(REAL / "cifar10_resnet" / "resnet20_akamaster.th")["state_dict"]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "net.safetensors")
    found = layers(LayersConfig(base=str(tmp_path), top="25%", together=True))
    assert len(found.layers) == 20
    assert found.chosen[:2] == ["module.conv1.weight", "module.layer3.2.conv2.weight"]
    assert [layer.name for layer in found.layers if layer.rank == 0] == ["module.linear.weight"]


def test_the_adapters_of_a_transformer_are_compared_by_place() -> None:
    found = layers(LayersConfig(base=str(REAL / "lora_distilbert_imdb"), top="1"))
    kinds = {layer.kind for layer in found.layers if "lora_B" in layer.name}
    assert len(kinds) == 2, "one of the queries and one of the values, over six layers"
