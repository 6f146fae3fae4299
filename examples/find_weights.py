"""Find weights for a data set that no network of the zoo was trained on, and use them in plain PyTorch.

    python examples/find_weights.py

Twenty seconds on one CPU core; test accuracy about .98, of the search alone .96 (best checkpoint of the zoo: about .85).
"""

import safetensors.torch

import popgen

found = popgen.search("cnn-s", "digits/rotate:45", evaluations=300, seed=0)[0]
for row in found.rows:
    print(f"{row.name:15s} {row.evaluations:4d} evaluations, test accuracy {row.test_score:.3f}")

network = popgen.build("cnn-s")
network.load_state_dict(safetensors.torch.load_file(found.weights))
