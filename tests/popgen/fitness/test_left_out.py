"""Examples that are left out one by one."""

from __future__ import annotations

from popgen.archs import ArchSpec
from popgen.data import load_data
from popgen.fitness import make_fitness


def test_labels_that_train_and_validate_count_once() -> None:
    spec = ArchSpec.from_config("cnn-s")
    few, all_of_them = (load_data(name) for name in ("digits/labels:40", "digits"))
    assert make_fitness(spec, few, (), head="refit").examples == 40
    fitness = make_fitness(spec, all_of_them, (), head="refit")
    assert fitness.examples == len(all_of_them.val) + len(all_of_them.train)
