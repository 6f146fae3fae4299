"""Architectures from outside: timm's models, torch.hub's entries, functions; their inputs, and whose code may run."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from popgen.archs import ArchConfig, ArchSpec, arch_config, build, check_runs, class_names, trust_named, with_classes
from popgen.archs.hub import parse_hub
from popgen.archs.variants import free_options
from popgen.errors import BadInput, NotFound, NotTrusted, Offline, PopgenError
from popgen.generator import Generator
from popgen.trust import is_trusted
from popgen.zoo import Checkpoint, Zoo

ROOT = Path(__file__).parents[3]
HUBCONF = """
from pathlib import Path

from torch import nn

dependencies = ["torch"]
Path(__file__).with_name("was_run").touch()


def small_net(pretrained=True, num_classes=10, width=4):
    assert not pretrained, "weights would be downloaded here"
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


def plain_net():
    return small_net(False)


def needy_net():
    import package_that_nobody_has
"""
IMAGES: dict[str, Any] = {"input_shape": (3, 16, 16), "mean": (0.5,), "std": (0.25,)}


def small(classes: int = 4) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, classes))


small.input_shape, small.mean, small.std = [3, 2, 2], [0.1, 0.2, 0.3], [1, 2, 3]  # type: ignore[attr-defined]
small.class_names = ["north", "east", "south", "west"]  # type: ignore[attr-defined]


def unannotated(classes=4):  # type: ignore[no-untyped-def]
    return small(classes)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    return folder


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give torch.hub an empty cache and a proxy that refuses every connection, and return the cache's folder."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "cache")
    yield tmp_path / "cache"
    torch.hub.set_dir(before)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "mean"),
    [
        ("timm:resnet18", (3, 224, 224), 1000, (0.485, 0.456, 0.406)),
        ("timm:resnet18.a1_in1k", (3, 224, 224), 1000, (0.485, 0.456, 0.406)),
        ("timm:resnet18/num_classes:10/in_chans:1", (1, 224, 224), 10, (0.449,)),
        ("timm:vit_tiny_patch16_224/img_size:32/num_classes:10", (3, 32, 32), 10, (0.5, 0.5, 0.5)),
    ],
)
def test_timm_says_what_images_its_networks_take(
    name: str, shape: tuple[int, ...], classes: int, mean: tuple[float, ...]
) -> None:
    config = arch_config(name)
    assert (config.name, config.inputs.shape, config.classes, config.inputs.mean) == (name, shape, classes, mean)
    assert len(config.inputs.std) == shape[0]
    assert ArchConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    if classes == 10:
        check_runs(config)


def test_what_a_spec_gives_becomes_an_option_of_timm() -> None:
    vit = arch_config("timm:vit_tiny_patch16_224", name="vit", input_shape=(1, 48, 48), classes=7, options={"depth": 1})
    assert vit.options == {"num_classes": 7, "in_chans": 1, "img_size": 48, "depth": 1}
    check_runs(vit)
    net = arch_config("timm:resnet10t", input_shape=(3, 32, 32), classes=5, mean=(0.1, 0.2, 0.3))
    assert net.options == {"num_classes": 5} and net.inputs.mean == (0.1, 0.2, 0.3)
    check_runs(net)
    assert ArchSpec.from_config(with_classes(net, 3)).tensors[-1].shape == (3,)


def test_timm_knows_the_names_of_imagenets_classes() -> None:
    names = class_names("timm:resnet18", 1000)
    assert len(set(names)) == 1000 and names[134].startswith("crane (n")
    assert class_names("timm:resnet18", 10) == class_names("resnet", 10) == ()


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        ("timm:resnet19", NotFound, "no timm model called 'resnet19'\nnearest known: resnet18"),
        ("timm:resnet18.nobody", NotFound, "nearest known: resnet18.tv_in1k"),
        ("timm:resnet18/pretrained:true", BadInput, "pretrained is no option here"),
        ("timm:resnet18/checkpoint_path:x.pth", BadInput, "popgen reads weights from checkpoints"),
        ("timm:resnet18/widht:3", BadInput, "does not take these options"),
        ("timm:resnet18/in_chans", BadInput, "'in_chans' is no option"),
        ("timm:resnet18/in_chans:1/in_chans:2", BadInput, "gives in_chans twice"),
        ("timm:vit_large_patch14_clip_224.openai/num_classes:0", BadInput, "makes features and no classes"),
    ],
)
def test_timm_names_that_do_not_work(name: str, error: type[PopgenError], expected: str) -> None:
    with pytest.raises(error) as caught:
        build(name)
    assert expected in str(caught.value)


def test_options_look_like_what_they_are() -> None:
    texts = ["a:3", "b:0.5", "c:true", "d:1-2-3", "e:gelu", "f:false", "g:.25", "h:1e5"]
    expected = {"a": 3, "b": 0.5, "c": True, "d": [1, 2, 3], "e": "gelu", "f": False, "g": 0.25, "h": "1e5"}
    assert free_options("x", texts) == expected


def test_an_entry_of_a_folder(clone: Path) -> None:
    config = arch_config(f"hub:{clone}:small_net/num_classes:3/width:6", **IMAGES)
    assert (config.builder, config.options) == (f"hub:{clone}:small_net", {"num_classes": 3, "width": 6})
    assert (config.classes, config.inputs.shape, config.inputs.std) == (3, (3, 16, 16), (0.25,))
    check_runs(config)
    assert ArchSpec.from_config(with_classes(config, 5)).tensors[-1].shape == (5,)
    plain = arch_config(f"hub:{clone}:plain_net", name="plain", **IMAGES)  # this entry takes no `pretrained`
    assert (plain.name, plain.classes) == ("plain", 10)


@pytest.mark.usefixtures("clone")
def test_a_repository_in_the_cache_needs_no_network(offline: Path) -> None:
    for folder in ("me_nets_main", "me_nets_v1.2"):
        (offline / folder).mkdir(parents=True)
        (offline / folder / "hubconf.py").write_text(HUBCONF)
    assert arch_config("hub:me/nets:small_net", **IMAGES).classes == 10
    assert arch_config("hub:me/nets@v1.2:small_net/num_classes:2", **IMAGES).classes == 2
    assert len((offline / "trusted_list").read_text().split()) <= 1


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        ("hub:me/nets:small_net", Offline, "could not be fetched\n"),
        (
            "hub:me/nets@v1:small_net",
            Offline,
            "git clone https://github.com/me/nets`, copy the folder here and name hub:FOLDER:small_net",
        ),
        ("hub:{clone}:smal_net", NotFound, "has no entry 'smal_net'\nnearest known: small_net"),
        ("hub:{clone}:needy_net", Offline, "needs a package that is not installed\nModuleNotFoundError"),
        ("hub:{clone}/none:small_net", NotFound, "has no hubconf.py"),
        ("hub:{clone}:small_net/depth:3", BadInput, "does not take these options"),
        ("hub:nets:small_net", BadInput, "is no OWNER/REPO and no folder here"),
        ("hub:me/nets", BadInput, "names no entry of a repository"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_entries_that_cannot_be_had(clone: Path, name: str, error: type[PopgenError], expected: str) -> None:
    with pytest.raises(error) as caught:
        arch_config(name.format(clone=clone), **IMAGES)
    assert expected in str(caught.value)
    assert error is not Offline or caught.value.exit_code == 6


def test_a_repository_does_not_say_what_images_it_takes(clone: Path) -> None:
    with pytest.raises(BadInput, match=r"is not known: input_shape, std\n") as caught:
        arch_config(f"hub:{clone}:small_net", mean=(0.5,))
    assert "--input-shape 3,32,32" in caught.value.todo
    wrong = arch_config(f"hub:{clone}:small_net", **IMAGES, classes=7)  # only its option num_classes would change it
    with pytest.raises(BadInput, match=r"makes \(1, 10\) of images of 3x16x16\n\(1, 7\) was expected"):
        check_runs(wrong)
    with pytest.raises(BadInput, match="does not run on images of 1x16x16"):
        check_runs(arch_config(f"hub:{clone}:small_net", **{**IMAGES, "input_shape": (1, 16, 16)}))


def test_names_of_repositories() -> None:
    ref, options = parse_hub("hub:chenyaofo/pytorch-cifar-models@v0.2/x:cifar10_vgg11_bn/num_classes:5")
    assert (ref.source, ref.entry, options) == (
        "chenyaofo/pytorch-cifar-models@v0.2/x",
        "cifar10_vgg11_bn",
        "/num_classes:5",
    )
    assert parse_hub("hub:./nets:a")[0].is_folder and not parse_hub("hub:me/nets:a")[0].is_folder


def test_a_function_carries_what_images_it_takes() -> None:
    config = arch_config(f"{__name__}:small")
    assert (config.inputs.shape, config.inputs.mean, config.inputs.std, config.classes) == (
        (3, 2, 2),
        (0.1, 0.2, 0.3),
        (1, 2, 3),
        4,
    )
    assert class_names(config.builder, 4) == ("north", "east", "south", "west")
    assert class_names(config.builder, 5) == ()
    other = arch_config(f"{__name__}:small/classes:6", mean=(0.5,) * 3)
    assert (other.inputs.mean, other.options) == ((0.5,) * 3, {"classes": 6})
    check_runs(replace(other, classes=6))


def test_texts_name_the_network_and_its_options(clone: Path) -> None:
    assert arch_config("timm:resnet18/num_classes:10/stem_width:32").text() == (
        "resnet18 network of timm, stem width 32, input 3x224x224, 10 classes"
    )
    text = arch_config(f"hub:{clone}:small_net/width:6", **IMAGES).text()
    assert text == "small net network of clone, width 6, input 3x16x16, 10 classes"  # the folder's path is left out


def test_a_zoo_does_not_choose_what_code_runs(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that only a zoo's file names is not run before the user has named it."""
    config = arch_config(f"hub:{clone}:small_net", name="theirs", **IMAGES)
    zoo = Zoo.create(tmp_path / "zoo", "theirs")
    record = Checkpoint(id="a", arch="theirs", arch_config=config, data="digits", lineage="a")
    zoo.add([(record, build(config).state_dict())])
    (clone / "was_run").unlink()
    code = f"""
from pathlib import Path
from popgen.archs import trust_named
from popgen.errors import NotTrusted
from popgen.zoo import Zoo
zoo = Zoo.open({str(tmp_path / "zoo")!r})
try:
    zoo.spec("theirs")
except NotTrusted as error:
    print(error.todo)
print(Path({str(clone)!r}, "was_run").exists())
trust_named(["{config.builder}/width:9", "cnn-s"])
print(zoo.spec("theirs").size)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        f"If you trust it, give --trust {config.builder} once, set POPGEN_TRUST={config.builder!r}, or name it yourself as the architecture.",
        "False",
        "162",
    ], done.stderr
    assert not is_trusted("hub:me/nets:never_named")
    monkeypatch.setenv("POPGEN_TRUST", "hub:a/b:c hub:me/nets:never_named")
    assert is_trusted("hub:me/nets:never_named")


def test_a_file_cannot_have_any_function_called(tmp_path: Path) -> None:
    for builder, options in (
        ("os:mkdir", {"path": str(tmp_path / "made")}),
        ("torch.hub:load", {"repo_or_dir": "a/b", "model": "c"}),
    ):
        with pytest.raises(NotTrusted, match="is code from outside"):
            build(ArchConfig("net", builder, options))
    assert not (tmp_path / "made").exists()
    assert isinstance(build(ArchConfig("net", "torch.nn:Linear", {"in_features": 2, "out_features": 3})), nn.Linear)
    assert isinstance(build(ArchConfig("net", f"{__name__}:small")), nn.Module)
    with pytest.raises(NotTrusted):
        build(ArchConfig("net", f"{__name__}:unannotated"))
    assert isinstance(build(arch_config(f"{__name__}:unannotated")), nn.Module)  # arch_config means the user named it


def test_a_generator_does_not_choose_either(tmp_path: Path) -> None:
    Generator.from_pretrained("digits").save_pretrained(tmp_path / "generator")
    path = tmp_path / "generator" / "config.json"
    content = json.loads(path.read_text())
    content["archs"]["cnn-s"]["builder"] = "hub:somebody/nets:net"
    path.write_text(json.dumps(content))
    with pytest.raises(NotTrusted, match="hub:somebody/nets:net is code from outside that a zoo or a generator names"):
        Generator.from_pretrained(tmp_path / "generator")


def test_what_is_named_here_is_named_in_workers() -> None:
    """A configuration's pickle carries to the worker whether its code may run."""
    unnamed, named = ArchConfig("a", "hub:a/b:one"), ArchConfig("b", "hub:a/b:two")
    trust_named(["hub:a/b:two"])
    sent = pickle.dumps((unnamed, ArchSpec(named, (), (), "")))
    code = (
        "import pickle, sys; from popgen.trust import is_trusted; a, b = pickle.loads(bytes.fromhex(sys.stdin.read())); "
        "print(is_trusted(a.builder), is_trusted(b.config.builder), b.config.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sent.hex(), capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "True", "b"], done.stderr
    assert not is_trusted("hub:a/b:one")
