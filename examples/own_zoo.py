"""A zoo, a generator and a search of one's own, small enough to watch: two designs on four variants of the digits.

    python examples/own_zoo.py FOLDER

One minute on two CPU cores. The same from the command line: `popgen train my_spec.yaml` and `popgen search --generator ...`.
"""

import sys
from pathlib import Path

import popgen

SPEC = """
zoo:
  name: small
  archs: [mlp-s, cnn-s]
  data: {source: digits, rotate: {every: 30, except: [30, 60, 120, 150, 180, 210, 240, 270]}, variants: [mirror]}
  seeds: [0, 1]
  recipe: {epochs: 5}
generator:
  vae: {steps: 600, gate: 0.2}
  encoders: {steps: 200}
  prior: {steps: 300}
  tune: {steps: 200}
"""

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "own_zoo")
folder.mkdir(parents=True, exist_ok=True)
(folder / "spec.yaml").write_text(SPEC)
zoo = popgen.build_zoo(popgen.read_spec(str(folder / "spec.yaml"))[0].zoo, folder / "zoo", workers=2)
popgen.train(str(folder / "spec.yaml"), str(folder / "generator"), zoo=str(folder / "zoo"))
found = popgen.search(
    "cnn-s", "digits/rotate:15", generator=str(folder / "generator"), zoo=str(folder / "zoo"), out=str(folder / "run")
)
print(f"test accuracy {found[0].result.test_score:.3f}, best of the zoo {found[0].row('best_zoo').test_score:.3f}")
