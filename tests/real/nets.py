"""The networks of the real checkpoints that are not built in, as functions that a zoo spec names: `nets:small_cnn`, `nets:lenet`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def small_cnn(channels: int = 3, side: int = 32) -> nn.Module:
    """Two strided convolutions and two linear layers: the small network of convex_adversarial and of alpha-beta-CROWN (cnn_a)."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


class _LeNet(nn.Module):
    """The network of PyTorch's 60-minute tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


def lenet() -> nn.Module:
    return _LeNet()


lenet.input_shape, lenet.mean, lenet.std = (3, 32, 32), (0.5,) * 3, (0.5,) * 3  # type: ignore[attr-defined]  # inputs in [-1, 1]


class _Adapter(nn.Module):
    """The tensors of a PEFT adapter of DistilBERT, under PEFT's names. The base model is no part of it: forward is the classifier alone."""

    def __init__(self, rank: int, classes: int) -> None:
        super().__init__()
        width = 768
        for layer in range(6):
            for part in ("q_lin", "v_lin"):
                place = f"base_model.model.distilbert.transformer.layer.{layer}.attention.{part}"
                self._put(f"{place}.lora_A", nn.Linear(width, rank, bias=False))
                self._put(f"{place}.lora_B", nn.Linear(rank, width, bias=False))
        self._put("base_model.model.pre_classifier", nn.Linear(width, width))
        self._put("base_model.model.classifier", nn.Linear(width, classes))

    def _put(self, path: str, module: nn.Module) -> None:
        owner: nn.Module = self
        *parents, last = path.split(".")
        for name in parents:
            if name not in owner._modules:
                owner.add_module(name, nn.Module())
            owner = owner.get_submodule(name)
        owner.add_module(last, module)

    def forward(self, x: Tensor) -> Tensor:
        model = self.get_submodule("base_model.model")
        hidden = torch.relu(model.get_submodule("pre_classifier")(x.flatten(1)))
        return model.get_submodule("classifier")(hidden)


def lora_distilbert(classes: int, rank: int = 8) -> nn.Module:
    return _Adapter(rank, classes)


lora_distilbert.input_shape = (1, 1, 768)  # type: ignore[attr-defined]  # DistilBERT's vector of the first token
