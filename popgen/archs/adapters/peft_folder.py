"""Writes an adapter as a folder in the format of peft, which is loaded without popgen, with its head and a page that says how."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from popgen.archs.adapters.base import load_base
from popgen.archs.adapters.config import HUB_NAMES, is_adapter_config, phrase_features
from popgen.archs.adapters.network import HEAD, TEMPERATURE
from popgen.files import write_tensors, write_text
from popgen.types import StateDict

if TYPE_CHECKING:
    from popgen.archs.spec import ArchSpec

_PAGE = """# LoRA adapter of {base}

`adapter_config.json` and `adapter_model.safetensors` are read by [peft](https://huggingface.co/docs/peft).{about_head}
The vector of a text is the mean of the last states of its tokens, scaled to length 1.

```python
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

base, folder, texts = "{base}", ".", ["A text.", "Another one."]
net = PeftModel.from_pretrained(AutoModel.from_pretrained(base), folder).eval()
tokens = AutoTokenizer.from_pretrained(base)(
    texts, padding=True, truncation=True, max_length={context}, return_tensors="pt"
)
mask = tokens["attention_mask"][..., None]
with torch.no_grad():
    states = net(**tokens).last_hidden_state
vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
{apply_head}```
"""
_HEAD = """head = load_file(f"{folder}/head.safetensors")
logits = vectors @ head["classifier.weight"].T + head["classifier.bias"]
"""


def write_peft_beside(file: Path, spec: ArchSpec, state: StateDict, classes: Sequence[str]) -> Path | None:
    """Write the adapter of `file`, NAME.safetensors, into the folder NAME-peft beside it; other architectures have none.

    Returns:
        The folder, or None.
    """
    if not is_adapter_config(spec.config):
        return None
    return write_peft(file.with_name(f"{file.name.removesuffix('.safetensors')}-peft"), spec, state, classes)


def write_peft(folder: Path, spec: ArchSpec, state: StateDict, classes: Sequence[str]) -> Path:
    """Write an adapter for peft: adapter_config.json, adapter_model.safetensors, head.safetensors and README.md.

    The head is the trained or fitted one, else that of the label phrases; without phrases there is none.

    Args:
        spec: an adapter's.
        classes: names of the head's outputs, for the page.
    """
    from peft import LoraConfig

    options, context = spec.config.options, int(spec.config.inputs.shape[0])
    base = HUB_NAMES.get(options["base"], options["base"])
    first, last = options["layers"]
    pattern = load_base(options["base"]).path.rpartition(".")[2]
    LoraConfig(
        r=options["r"], lora_alpha=options["alpha"], target_modules=list(options["targets"]), inference_mode=True,
        layers_to_transform=list(range(first, last + 1)), layers_pattern=pattern, base_model_name_or_path=base,
    ).save_pretrained(str(folder))  # fmt: skip
    plain = {"format": "pt"}
    lora = {name: tensor for name, tensor in state.items() if ".lora_" in name}
    write_tensors(folder / "adapter_model.safetensors", lora, plain)
    head = _head(spec, state)
    if head:
        write_tensors(folder / "head.safetensors", head, plain)
    about = f"\n`head.safetensors` is a linear classifier with the outputs {', '.join(classes)}." if head else ""
    page = _PAGE.format(base=base, context=context, about_head=about, apply_head=_HEAD if head else "")
    write_text(folder / "README.md", page)
    return folder


def _head(spec: ArchSpec, state: StateDict) -> StateDict:
    """Weight (classes, width) and bias (classes,) of the head; empty without one."""
    if f"{HEAD}.weight" in state:
        return {name: tensor for name, tensor in state.items() if name.startswith(f"{HEAD}.")}
    features = phrase_features(spec.config)
    if features is None:
        return {}
    return {f"{HEAD}.weight": TEMPERATURE * features, f"{HEAD}.bias": torch.zeros(len(features))}
