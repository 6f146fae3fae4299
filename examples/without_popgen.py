"""The weights that a search writes are a plain state dict: this file needs torch and safetensors, not popgen.

popgen search --arch cnn-s --data digits/rotate:45 --out runs/example
python examples/without_popgen.py runs/example/best-cnn-s.safetensors
"""

import sys

import torch
from safetensors.torch import load_file
from torch import nn

network = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(256, 10),
)
network.load_state_dict(load_file(sys.argv[1]))
print(network(torch.rand(1, 1, 8, 8)).softmax(1))
