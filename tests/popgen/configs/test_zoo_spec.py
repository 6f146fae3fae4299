"""Specs of zoos, and what is wrong with them."""

import subprocess
import sys
from pathlib import Path

import pytest

from popgen.configs.load import find_spec, load
from popgen.configs.spec import DataGrid, Rotations, SpecFile, ZooSpec
from popgen.errors import BadInput, BrokenFile, NotFound

SPEC = """
zoo:
  name: tiny
  archs: [mlp-s, {name: cnn-3, like: cnn-s, classes: 3}]
  data: {source: digits, rotate: {every: 90, except: [180]}, variants: [invert]}
  seeds: [0, 1]
  held_out: {seeds: [1]}
"""


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)
    return path


def test_data_is_written_out(spec_file: Path) -> None:
    zoo = load(spec_file, SpecFile).zoo
    assert zoo.data_names == ["digits/rotate:0", "digits/rotate:90", "digits/rotate:270", "digits/invert"]
    assert zoo.archs[1].replaced == {"name": "cnn-3", "classes": 3}
    assert [zoo.is_held_out("digits/invert", seed) for seed in (0, 1)] == [False, True]


def test_a_pair_of_architecture_and_data_set_is_held_out(spec_file: Path) -> None:
    zoo = load(spec_file, SpecFile, {"zoo.held_out": {"pairs": [["cnn-3", "digits/invert"]]}}).zoo
    found = [(a.name, d) for a in zoo.archs for d in zoo.data_names if zoo.is_held_out(d, 0, arch=a.name)]
    assert found == [("cnn-3", "digits/invert")]


@pytest.mark.usefixtures("spec_file")
def test_mixtures_are_of_different_kinds() -> None:
    data = {"source": "digits", "rotate": {"every": 180}, "variants": ["invert", "blur", "blur:2"]}
    singles = DataGrid(**data).names
    mixed = DataGrid(**data, mixtures={"except": [["blur", "rotate"]]}).names
    assert mixed[: len(singles)] == singles
    assert [name.removeprefix("digits/") for name in mixed[len(singles) :]] == [
        "rotate:0/invert",
        "rotate:180/invert",
        "invert/blur",
        "invert/blur:2",
    ]
    three = DataGrid(**data, mixtures={"of": 3}).names[len(singles) :]
    assert len(three) == 2 * 2 and "digits/rotate:180/invert/blur:2" in three


def test_what_the_generator_learns_from_keeps_away_from_what_is_held_out() -> None:
    grids = [
        DataGrid.model_validate(grid) for grid in load("zoo_specs/digits.yaml", SpecFile).generator["tune"]["tasks"]
    ]
    tasks = [name for grid in grids for name in grid.names]
    angles = {float(part[7:]) for name in tasks for part in name.split("/") if part.startswith("rotate:")}
    assert min(abs(angle - held) for angle in angles for held in (45, 135, 225, 315)) == 15
    kinds = [{part.partition(":")[0] for part in name.split("/")[1:]} for name in tasks]
    assert not [k for k in kinds if k in ({"blur", "contrast"}, {"mirror", "noise"}, {"invert", "contrast"})]
    assert not [n for n in tasks if n.count("/") > 1 and ("rotate:75/" in n or "rotate:255/" in n)]
    assert max(map(len, kinds)) == 2
    seeds, own = load("zoo_specs/digits_seeds.yaml", SpecFile).zoo, load("zoo_specs/digits.yaml", SpecFile).zoo
    assert seeds.data_names == own.data_names and len(seeds.data_names) * len(seeds.archs) * len(seeds.seeds) == 2080


@pytest.mark.parametrize("every", [15, 7, 0.1, 180])
def test_rotations_stay_below_a_full_turn(every: float) -> None:
    angles = Rotations(every=every).angles
    assert angles[0] == 0
    assert angles[-1] < 360
    assert len(angles) == -(-360 // every)


def test_the_digits_spec_has_312_networks() -> None:
    zoo = load("zoo_specs/digits.yaml", SpecFile).zoo
    assert len(zoo.data_names) * len(zoo.archs) * len(zoo.seeds) == 312
    assert not {f"digits/rotate:{angle}" for angle in (45, 135, 225, 315)} & set(zoo.data_names)
    assert zoo.held_out.seeds == [2]


def test_the_families_start_from_their_base_and_hold_out_one_pair_for_each_data_set() -> None:
    base, zoo = (load(f"zoo_specs/{name}.yaml", SpecFile).zoo for name in ("families_base", "families"))
    assert zoo.start == f"zoos/{base.name}"
    assert [(a.name, a.like, a.options) for a in zoo.archs] == [(a.name, a.like, a.options) for a in base.archs]
    assert {data for _, data in zoo.held_out.pairs} == set(zoo.data_names)


def test_overrides_replace_values(spec_file: Path) -> None:
    assert load(spec_file, SpecFile, {"zoo.recipe.epochs": "3"}).zoo.recipe.epochs == 3
    assert load(spec_file, SpecFile, {"generator.steps": 7}).generator == {"steps": 7}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            {"zoo.recipe.epoch": 3},
            "zoo.recipe.epoch is not a known key\nreceived 3 (int); nearest known: epochs\nCorrect",
        ),
        ({"zoo.data.rotat": 3}, "nearest known: rotate"),
        ({"zoo.recipe.epochs": "many"}, "zoo.recipe.epochs has a value that does not fit\nreceived 'many' (str): "),
        ({"zoo.recipe.lr": -1}, "received -1 (int): Input should be greater than 0"),
        ({"zoo.seeds": [0, 1, 0]}, "zoo does not fit\nseeds lists 0 twice"),
        ({"zoo.archs": []}, "zoo does not fit\na zoo has archs and data, which are trained, or checkpoints"),
        ({"zoo.held_out.seeds": [7]}, "held_out.seeds has 7, which seeds [0, 1] has not"),
        (
            {"zoo.held_out.data": ["digits/inver"]},
            "held_out.data has 'digits/inver', which data has not; nearest: digits/invert",
        ),
        (
            {"zoo.held_out.pairs": [["mlp-s", "digits"]]},
            "held_out.pairs has 'mlp-s' on 'digits', which is no architecture and data set of this zoo",
        ),
        ({"zoo.name": "../up"}, "zoo.name has a value that does not fit"),
        ({"zoo.name.first": "x"}, "zoo.name.first cannot be set\nzoo.name is 'tiny' (str)"),
        ({"zoo.recipe": {"epoch": 1, "batches": 2}}, "(and 1 more: zoo.recipe.batches)"),
        ({"zoo.archs": [{"like": "cnn-s"}]}, "zoo.archs.0.name is missing\nknown keys there: name, like, options"),
    ],
)
def test_what_does_not_fit_is_named(spec_file: Path, overrides: dict[str, object], expected: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(spec_file, SpecFile, overrides)
    assert expected in str(caught.value)


def test_files_that_are_no_specs(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("zoo: [unclosed")
    with pytest.raises(BrokenFile, match=r"bad\.yaml is not YAML"):
        load(bad, SpecFile)
    bad.write_text("just words")
    with pytest.raises(BadInput, match="expected keys: zoo, generator"):
        load(bad, SpecFile)
    bad.write_text("{}")
    with pytest.raises(BadInput, match="zoo is missing"):
        load(bad, SpecFile)
    with pytest.raises(NotFound, match=r"there is no spec 'digit'\n.*nearest known: digits"):
        load("digit", SpecFile)
    assert find_spec("digits") == Path("zoo_specs/digits.yaml")


def test_nothing_is_constructed_by_tags(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(f"zoo: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]")
    with pytest.raises(BrokenFile):
        load(bad, SpecFile)
    assert not (tmp_path / "made").exists()


def test_a_spec_of_python_values() -> None:
    assert ZooSpec(name="z", archs=["mlp-s"], data="digits").data_names == ["digits"]


def test_config_needs_no_torch() -> None:
    code = "import sys, popgen.configs.spec, popgen.cli.zoo; print('torch' in sys.modules, 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
