"""Importing checkpoints that popgen did not write."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from popgen.archs import ArchSpec, build
from popgen.configs.spec import ArchEntry
from popgen.data import load_data
from popgen.errors import BadInput, BrokenFile, NotFound
from popgen.zoo import Zoo
from popgen.zoo.imports.add import import_checkpoints
from popgen.zoo.imports.checkpoint import ForeignCheckpoint, import_checkpoint
from popgen.zoo.imports.listing import list_checkpoints
from popgen.zoo.imports.matching import fit_tensors
from popgen.zoo.imports.tensors import read_tensors

STATE = build("resnet-s", seed=1).state_dict()
SPEC = ArchSpec.from_config("resnet-s")


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return OrderedDict((prefix + name, t) for name, t in STATE.items())


def imported(path: Path, **fields: Any) -> tuple[str, dict[str, torch.Tensor]]:
    record, state = import_checkpoint(ForeignCheckpoint(path, **{"arch": "resnet-s", "data": "digits", **fields}))
    return record.note, state


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3, "best": np.float64(0.5)},
        {"state_dict": prefixed("module."), "optimizer": {"lr": 0.1}},
        {"model": prefixed("_orig_mod.module.")},
        [STATE],
        {"model_state_dict": [STATE]},
        {"net": {"state_dict": STATE}},
        {name: t.half() if t.is_floating_point() else t for name, t in STATE.items()},
        {name: t for name, t in STATE.items() if "num_batches" not in name},
        prefixed("model."),
    ],
    ids=["bare", "key", "module", "compiled", "list", "key-list", "nested", "half", "no-counters", "prefix"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_the_usual_forms_are_read(tmp_path: Path, content: object, zipped: bool) -> None:
    path = tmp_path / "net.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    _, state = imported(path)
    assert torch.allclose(SPEC.to_flat(state), SPEC.to_flat(STATE), atol=1e-3)
    assert state.keys() == STATE.keys()


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(prefixed("module."), tmp_path / "net.safetensors")
    note, state = imported(tmp_path / "net.safetensors")
    assert note == "removed the prefix 'module.' from its names"
    assert torch.equal(SPEC.to_flat(state), SPEC.to_flat(STATE))


def renamed(order: list[str] | None = None) -> dict[str, torch.Tensor]:
    """The tensors of STATE under other names of layers, in their own order or another one."""
    owners = {name: name.rpartition(".")[0] for name in STATE}
    numbers = {owner: i for i, owner in enumerate(dict.fromkeys(owners.values()))}
    others = {f"layers.{numbers[owners[name]]:02}.{name.rpartition('.')[2]}": t for name, t in STATE.items()}
    return OrderedDict((name, others[name]) for name in order or others)


def test_other_names_are_matched_by_order_where_their_last_parts_agree(tmp_path: Path) -> None:
    torch.save(renamed(), tmp_path / "net.pt")
    note, state = imported(tmp_path / "net.pt")
    first = "names differ (such as layers.00.weight for conv1.weight)"
    assert note == f"{first}: tensors were matched by order, in which shapes and last parts of names agree"
    assert torch.equal(SPEC.to_flat(state), SPEC.to_flat(STATE))
    save_file(renamed(), tmp_path / "net.safetensors")  # Its tensors are sorted, so that their order has no meaning.
    with pytest.raises(BadInput, match="does not fit the architecture"):
        imported(tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    "content",
    [renamed(sorted(renamed())), {f"t{i}": t for i, t in enumerate(STATE.values())}],
    ids=["sorted", "names without a last part"],
)
def test_an_order_that_may_permute_tensors_of_one_shape_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(BadInput, match=r"does not fit the architecture(.|\n)*conv1.weight \(8, 1, 3, 3\) is missing"):
        imported(tmp_path / "net.pt")


def test_layers_sorted_as_text_are_not_matched_by_order() -> None:
    spec = ArchSpec.from_module(torch.nn.Sequential(*(torch.nn.Linear(3, 3, bias=False) for _ in range(12))))
    tensors = {f"layer.{i}.weight": torch.full((3, 3), float(i)) for i in range(12)}
    state, _ = fit_tensors(spec, tensors, "net.pt")
    assert state["10.weight"][0, 0] == 10
    other = {name.replace("layer", "a.b") + "s": t for name, t in tensors.items()}
    with pytest.raises(BadInput, match="12|24 tensors differ"):
        fit_tensors(spec, {name: other[name] for name in sorted(other)}, "net.pt")


@pytest.mark.parametrize("order", [list(STATE), sorted(STATE), list(STATE)[::-1]])
def test_any_prefix_is_removed_and_names_are_matched(tmp_path: Path, order: list[str]) -> None:
    torch.save(OrderedDict((f"encoder.trunk.{name}", STATE[name]) for name in order), tmp_path / "net.pt")
    note, state = imported(tmp_path / "net.pt")
    assert note == "removed the prefix 'encoder.trunk.' from its names"
    assert torch.equal(SPEC.to_flat(state), SPEC.to_flat(STATE))


def test_a_prefix_of_the_architecture_alone_is_put_before_the_names() -> None:
    inner = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    spec = ArchSpec.from_module(torch.nn.ModuleDict({"net": inner}))
    state, note = fit_tensors(spec, {f"old.{k}": v for k, v in reversed(inner.state_dict().items())}, "net.pt")
    assert note == "removed the prefix 'old.' from its names and put 'net.' before its names"
    assert torch.equal(state["net.0.weight"], inner[0].weight)


def test_two_networks_in_one_file_are_not_guessed_between(tmp_path: Path) -> None:
    torch.save({**prefixed("student."), **prefixed("teacher.")}, tmp_path / "net.pt")
    with pytest.raises(BadInput, match=r"2 times\nunder the prefixes 'student.', 'teacher.'\n.*--ignore 'teacher.\*'"):
        imported(tmp_path / "net.pt")
    note, _ = imported(tmp_path / "net.pt", ignore=("teacher.*",))
    assert "left out teacher.conv1.weight, teacher.bn1.weight" in note


def test_surplus_tensors_are_named_with_the_option_that_leaves_them_out(tmp_path: Path) -> None:
    path = tmp_path / "net.ckpt"
    torch.save({"state_dict": {**prefixed("model."), "criterion.weight": torch.ones(10)}}, path)
    with pytest.raises(BadInput) as caught:
        imported(path)
    assert "holds all tensors of 'resnet-s' under the prefix 'model.', and 1 more\n" in str(caught.value)
    assert "not in the network: criterion.weight (10,)\n" in str(caught.value)
    assert "--ignore 'criterion.weight'" in str(caught.value)
    note, state = imported(path, ignore=("criterion.*", "none"))
    assert note == "left out criterion.weight; removed the prefix 'model.' from its names"
    assert torch.equal(SPEC.to_flat(state), SPEC.to_flat(STATE))


def test_the_layers_of_a_deeper_network_are_no_surplus(tmp_path: Path) -> None:
    state = {f"module.{name}": t for name, t in build("resnet32", seed=0).state_dict().items()}
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(
        BadInput, match=r"(.|\n)*layer1\.3\.conv1\.weight \(16, 16, 3, 3\) is not in it(.|\n)*of 'resnet32'"
    ):
        imported(tmp_path / "net.pt", arch="resnet20", data="cifar10")


def test_integers_are_not_read_as_weights(tmp_path: Path) -> None:
    torch.save({**STATE, "conv1.weight": torch.ones(8, 1, 3, 3, dtype=torch.int8)}, tmp_path / "net.pt")
    with pytest.raises(BadInput, match="holds int8 values as weights\nin conv1.weight"):
        imported(tmp_path / "net.pt")


def test_a_lora_adapter_is_named(tmp_path: Path) -> None:
    names = ("base_model.model.conv1.lora_A.weight", "base_model.model.conv1.lora_B.weight")
    torch.save({name: torch.ones(2, 2) for name in names}, tmp_path / "net.pt")
    with pytest.raises(BadInput, match=r"holds a LoRA adapter, not the weights of 'resnet-s'(.|\n)*merge_and_unload"):
        imported(tmp_path / "net.pt")


def test_a_place_in_the_file_is_chosen_by_key(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"state_dict": [build("resnet-s", seed=2).state_dict(), STATE], "ema": STATE}, path)
    with pytest.raises(BadInput, match=r"holds 2 state dicts in a list\n.*\nChoose one with --key"):
        imported(path)
    for key in ("ema", "state_dict.1"):
        assert torch.equal(SPEC.to_flat(imported(path, key=key)[1]), SPEC.to_flat(STATE))
    with pytest.raises(NotFound, match=r"key 'em': there is no 'em'\nnearest there: ema"):
        imported(path, key="em")


def test_what_does_not_fit_is_named_tensor_by_tensor(tmp_path: Path) -> None:
    wrong = dict(STATE)
    wrong["linear.weight"] = torch.zeros(7, 16)
    wrong["extra"] = wrong.pop("conv1.weight")
    torch.save(wrong, tmp_path / "net.pt")
    with pytest.raises(BadInput) as caught:
        imported(tmp_path / "net.pt")
    text = str(caught.value)
    assert "net.pt does not fit the architecture 'resnet-s': 3 tensors differ" in text
    assert "linear.weight is (7, 16), not (10, 16)" in text
    assert "conv1.weight (8, 1, 3, 3) is missing" in text
    assert "extra (8, 1, 3, 3) is not in it" in text


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    torch.save({**STATE, "linear.bias": torch.full((10,), float("nan"))}, tmp_path / "net.pt")
    with pytest.raises(BadInput, match="holds NaN or infinity\nin linear.bias"):
        imported(tmp_path / "net.pt")


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["zip", "legacy", "raw", "raw2", "hidden", "key", "list", "tensor", "order"])
def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path, form: str) -> None:
    path, target = tmp_path / "net.pt", tmp_path / "made"
    one = _Attack(target)
    forms = {
        "hidden": {"state_dict": STATE, "extra": one},
        "key": {"state_dict": {**STATE, "linear.bias": one}},
        "list": [STATE, {"net": [one]}],
        "tensor": {"state_dict": [STATE, {**STATE, "conv1.weight": one}]},
        "order": OrderedDict([("first", one), *STATE.items()]),
    }
    attack = forms.get(form, one)
    if form.startswith("raw"):
        path.write_bytes(pickle.dumps(attack, protocol=2 if form == "raw2" else 4))
    else:
        torch.save(attack, path, _use_new_zipfile_serialization=form != "legacy")
    with pytest.raises(BrokenFile) as caught:
        imported(path)
    assert not target.exists()
    if form != "raw":  # torch refuses protocol 4 before it reads any global
        assert "its pickle asks for posix.mkdir" in str(caught.value) or "its pickle asks for nt.mkdir" in str(
            caught.value
        )
        assert "nothing of it was run" in str(caught.value)


def test_a_whole_pickled_module_is_refused_with_advice(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pt")
    with pytest.raises(BrokenFile, match=r"asks for torch\.nn\.modules\.linear\.Linear(.|\n)*save model\.state_dict"):
        imported(tmp_path / "net.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files_are_broken(tmp_path: Path, suffix: str, keep: float, zipped: bool) -> None:
    path = tmp_path / f"net{suffix}"
    if suffix == ".pt":
        torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    else:
        save_file(STATE, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(BrokenFile, match=r"net\.(pt|safetensors) is"):
        imported(path)


@pytest.mark.parametrize(
    "text", ["hello world\n" * 10, "junk", "<!DOCTYPE html>", "version https://git-lfs.github.com/spec/v1\n", "\0" * 99]
)
def test_other_files_are_broken(tmp_path: Path, text: str) -> None:
    (tmp_path / "net.pt").write_text(text)
    with pytest.raises(BrokenFile):
        imported(tmp_path / "net.pt")


def test_files_without_weights(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": [0.1]}, tmp_path / "net.pt")
    with pytest.raises(BadInput, match=r"holds no state dict\nit holds keys epoch, lr"):
        read_tensors(tmp_path / "net.pt")
    with pytest.raises(NotFound, match="is not a file"):
        read_tensors(tmp_path / "none.pt")
    with pytest.raises(BadInput, match="its architecture is not given"):
        import_checkpoint(ForeignCheckpoint(tmp_path / "net.pt", data="digits"))


def test_an_index_describes_a_folder(tmp_path: Path) -> None:
    for seed in (1, 2):
        torch.save(build("resnet-s", seed=seed).state_dict(), tmp_path / f"n{seed}.pt")
    index = tmp_path / "index.csv"
    index.write_text(
        "file,architecture,dataset,lineage,accuracy_stated,licence\nn1.pt,resnet-s,digits,run,91.5,MIT\nn2.pt,resnet-s,digits,run,,\n"
    )
    entry = ArchEntry(name="resnet-half", mean=(0.5,), std=(0.25,))
    files = list_checkpoints(index, ForeignCheckpoint(index, licence="unknown", source="here", changes=entry))
    zoo = Zoo.create(tmp_path / "zoo", "zoo")
    added = import_checkpoints(zoo, files, evaluate_on=load_data("digits"))
    assert [r.id for r in added] == ["resnet-half/digits/n1", "resnet-half/digits/n2"]
    assert added[0].metrics["accuracy_stated"] == 0.915
    assert "test_accuracy" in added[0].metrics
    assert (added[0].licence, added[1].licence, added[0].source, added[1].lineage) == ("MIT", "unknown", "here", "run")
    assert added[0].arch_config.inputs.mean == (0.5,)
    assert added[0].classes == tuple("0123456789")
    assert import_checkpoints(zoo, files) == []
    assert len(zoo) == 2
    assert zoo.verify() == []
    torch.save(build("resnet-s", seed=9).state_dict(), tmp_path / "n1.pt")
    with pytest.raises(BadInput, match="the zoo has 'resnet-half/digits/n1' with other weights"):
        import_checkpoints(zoo, files)


def test_an_index_that_does_not_fit(tmp_path: Path) -> None:
    index = tmp_path / "index.csv"
    index.write_text("name,architecture\na,b\n")
    with pytest.raises(BadInput, match=r"has no column 'file'\nit has name, architecture"):
        list_checkpoints(index, ForeignCheckpoint(index))
    index.write_text("file,architecture\n../../secret.pt,b\n")
    with pytest.raises(BadInput, match="leaves the folder"):
        list_checkpoints(index, ForeignCheckpoint(index))
    index.write_text("file,accuracy\na.pt,high\n")
    with pytest.raises(BadInput, match=r"accuracy of a\.pt is 'high'"):
        list_checkpoints(index, ForeignCheckpoint(index))
    with pytest.raises(NotFound, match="holds no checkpoints"):
        list_checkpoints(tmp_path, ForeignCheckpoint(tmp_path))
