"""An adapter that popgen writes is loaded by peft alone, and computes the same there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_bases import save_base
from torch.func import functional_call

from popgen.archs import ArchSpec, arch_config, build
from popgen.archs.adapters.config import with_phrases
from popgen.archs.adapters.peft_folder import write_peft, write_peft_beside
from popgen.texts import to_bytes

TEXTS = ["a good film", "the food was very dull and not warm", "bad", "it is a cold story and not a fine meal"]
PHRASES = ("good film", "bad food")
TARGETS = {"bert": "query+value", "distilbert": "q_lin+v_lin", "roberta": "query+value", "llama": "q_proj+v_proj"}


def written(spec: ArchSpec, folder: Path, classes: tuple[str, ...] = ("yes", "no")) -> torch.Tensor:
    """Write an adapter that is not zero, and return its outputs on TEXTS."""
    generator = torch.Generator().manual_seed(0)
    start = build(spec.config, seed=0)
    state = {name: t + 0.3 * torch.randn(t.shape, generator=generator) for name, t in start.state_dict().items()}
    write_peft(folder, spec, state, classes)
    with torch.no_grad():
        outputs: torch.Tensor = functional_call(start, state, spec.config.inputs.prepare(to_bytes(TEXTS)))
    return outputs


def run_page(folder: Path) -> dict[str, Any]:
    """Run the Python of the folder's README.md on TEXTS, and return what it has computed."""
    [code] = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert "popgen" not in code
    code = code.replace('"."', repr(str(folder))).replace('["A text.", "Another one."]', repr(TEXTS))
    found: dict[str, Any] = {}
    exec(code, found)  # noqa: S102 - the page is our own
    return found


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("head", ["phrases", "linear"])
def test_peft_alone_computes_the_same_logits(kind: str, head: str, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", kind)
    config = arch_config(f"lora:{base}/r:2/targets:{TARGETS[kind]}/layers:1-2/context:8")
    spec = ArchSpec.from_config(with_phrases(config, PHRASES, head))
    outputs = written(spec, tmp_path / "adapter")
    assert torch.allclose(run_page(tmp_path / "adapter")["logits"], outputs, atol=1e-5)
    page = (tmp_path / "adapter" / "README.md").read_text()
    assert "with the outputs yes, no" in page and "max_length=8" in page


def test_without_classes_there_are_vectors_and_no_head(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    spec = ArchSpec.from_config(f"lora:{base}/r:2/layers:1-2/context:16")
    outputs = written(spec, tmp_path / "adapter", ())
    found = run_page(tmp_path / "adapter")
    assert torch.allclose(found["vectors"], outputs, atol=1e-5) and "logits" not in found
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_the_weights_are_the_adapter_alone(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    config = with_phrases(arch_config(f"lora:{base}/r:2/layers:1-2"), PHRASES, "linear")
    spec = ArchSpec.from_config(config)
    state = {name: tensor.detach() for name, tensor in build(config, seed=0).state_dict().items()}
    assert write_peft_beside(tmp_path / "best.safetensors", spec, state, ("a", "b")) == tmp_path / "best-peft"
    stored = load_file(tmp_path / "best-peft" / "adapter_model.safetensors")
    assert set(stored) == {name for name in state if "lora" in name} and len(stored) == 8
    assert set(load_file(tmp_path / "best-peft" / "head.safetensors")) == {"classifier.weight", "classifier.bias"}


def test_other_architectures_have_no_such_folder(tmp_path: Path) -> None:
    spec = ArchSpec.from_config("cnn-s")
    assert write_peft_beside(tmp_path / "best.safetensors", spec, build("cnn-s", seed=0).state_dict(), ()) is None
    assert not list(tmp_path.iterdir())
