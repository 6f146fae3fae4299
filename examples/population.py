"""Sample a population for a data set, look at what its members do, and get a checkpoint of the zoo back.

    python examples/population.py

Ten seconds on one CPU core.
"""

import popgen
from popgen.networks.forward import task_score

generator = popgen.Generator.from_pretrained("digits")
data = popgen.load_data("digits/rotate:45")
latents = generator.sample("mlp-s", data, n=8, seed=0)
for weights in generator.decode("mlp-s", latents):
    print(f"generated: validation accuracy {task_score(generator.spec('mlp-s'), weights, data):.3f}")

expert = popgen.retrieve("cnn-s", "digits/rotate:30", "runs/expert.safetensors")
print(f"retrieved {expert.id}: test accuracy {expert.test_score:.3f}, the original's {expert.original_test_score:.3f}")
