import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from popgen.archs import ArchSpec, build
from popgen.configs.spec import ArchEntry
from popgen.data import load_data
from popgen.errors import BadInput, BrokenFile, NotFound
from popgen.zoo import Zoo
from popgen.zoo.imports.checkpoint import ForeignCheckpoint, import_checkpoint, import_checkpoints, list_checkpoints
from popgen.zoo.imports.tensors import read_tensors

STATE = build("resnet-s", seed=1).state_dict()
SPEC = ArchSpec.from_config("resnet-s")


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return OrderedDict((prefix + name, t) for name, t in STATE.items())


def imported(path: Path, **fields: str) -> tuple[str, dict[str, torch.Tensor]]:
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


def test_other_names_are_matched_by_order(tmp_path: Path) -> None:
    renamed = OrderedDict((f"t{i}", t) for i, t in enumerate(STATE.values()))
    torch.save(renamed, tmp_path / "net.pt")
    note, state = imported(tmp_path / "net.pt")
    assert note == "names differ (such as t0 for conv1.weight): matched by order, count and shapes agree"
    assert torch.equal(SPEC.to_flat(state), SPEC.to_flat(STATE))
    save_file(
        renamed, tmp_path / "net.safetensors"
    )  # A safetensors file sorts its tensors, so their order has no meaning.
    with pytest.raises(BadInput, match="does not fit the architecture"):
        imported(tmp_path / "net.safetensors")


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
