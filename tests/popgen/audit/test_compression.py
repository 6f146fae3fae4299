"""int8, fitting of codes, and the table of sizes and losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from popgen.archs import ArchSpec, build
from popgen.audit.compression import (
    Compression,
    Lost,
    arch_rows,
    compression_rows,
    generator_bytes,
    measure_compression,
)
from popgen.data import load_data
from popgen.errors import BadInput, NotFound
from popgen.generator import Generator
from popgen.generator.fit_codes import CodeFit, fit_codes
from popgen.networks.forward import distillation_losses, network_outputs
from popgen.refs import ASSETS
from popgen.weights.quantise import quantise
from popgen.zoo import Zoo


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_pretrained("digits")


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return Zoo.open("digits")


def test_int8_is_within_half_a_step_of_each_channel() -> None:
    spec = ArchSpec.from_config("resnet-s")
    weights = torch.stack([spec.to_flat(build("resnet-s", seed=i).state_dict()) for i in range(3)])
    small = quantise(spec, weights)
    back = [spec.to_state(flat) for flat in small.weights()]
    for tensor in spec.tensors:
        for row, state in enumerate(back):
            before = spec.to_state(weights[row])[tensor.name]
            peaks = before.flatten(1).abs().amax(1) if before.dim() > 1 else before.abs().amax()[None]
            error = (before - state[tensor.name]).reshape(len(peaks), -1).abs().amax(1)
            assert bool((error <= peaks / 127 / 2 + 1e-7).all()), tensor.name
    assert small.values.shape == weights.shape and small.compressed_bytes() < weights.numel() + 4 * small.scales.numel()


def test_int8_variances_stay_positive() -> None:
    spec = ArchSpec.from_config("resnet-s")
    flat = spec.to_flat(build("resnet-s", seed=0).state_dict())
    for tensor, part in zip(spec.tensors, flat.split([t.size for t in spec.tensors]), strict=True):
        if tensor.kind == "norm_var":
            part.copy_(torch.logspace(-6, 2, len(part)))
    state = spec.to_state(quantise(spec, flat[None]).weights()[0])
    assert all(bool((state[t.name] > 0).all()) for t in spec.tensors if t.kind == "norm_var")


def test_distillation_is_zero_at_the_original_and_has_a_gradient() -> None:
    spec, part = ArchSpec.from_config("resnet-s"), load_data("digits").train.take(torch.arange(8))
    flat = spec.to_flat(build("resnet-s", seed=0).state_dict())
    inputs = spec.config.inputs.prepare(part.inputs)
    batch = [(inputs, network_outputs(spec, flat, inputs), part.targets)]
    assert float(distillation_losses([spec], flat[None], batch)) == pytest.approx(0, abs=1e-6)
    moved = (flat * 1.1)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_losses([spec], moved, batch).sum(), moved)
    assert bool(torch.isfinite(gradient).all()) and float(gradient.norm()) > 0


@pytest.mark.parametrize("arch", ["mlp-s", "resnet-s"])
def test_fitted_codes_are_closer_and_reproducible(generator: Generator, zoo: Zoo, arch: str) -> None:
    records = zoo.select(arch=arch, held_out=True)[:2]
    weights, data = zoo.matrix(records), [load_data(record.data) for record in records]
    start = generator.encode(arch, weights)
    settings = CodeFit(steps=8, images=60, distil=1.0, labels=0.0)
    codes = fit_codes(generator, arch, weights, data, start, settings)
    assert torch.equal(codes, fit_codes(generator, arch, weights, data, start, settings))
    one_alone = fit_codes(generator, arch, weights[1:], data[1:], start[1:], settings)
    assert torch.allclose(one_alone[0], codes[1], atol=1e-4)
    spec = generator.spec(arch)

    def divergence(latents: torch.Tensor) -> torch.Tensor:
        inputs = [spec.config.inputs.prepare(one.train.inputs) for one in data]
        batches = [
            (x, network_outputs(spec, w, x), one.train.targets) for x, w, one in zip(inputs, weights, data, strict=True)
        ]
        return distillation_losses([spec] * len(data), generator.decode(arch, latents), batches)

    assert bool((divergence(codes) < 0.9 * divergence(start)).all())
    assert torch.equal(fit_codes(generator, arch, weights, data, start, CodeFit(steps=0, images=60)), start)


def test_a_network_without_its_data_set_is_refused(generator: Generator, zoo: Zoo) -> None:
    weights = zoo.matrix(zoo.select(arch="mlp-s")[:2])
    with pytest.raises(BadInput, match=r"(?s)2 networks of 'mlp-s', 1 data sets.*trained on.*one data set for each"):
        fit_codes(generator, "mlp-s", weights, [load_data("digits")])


def test_the_report_of_the_shipped_generator(generator: Generator, zoo: Zoo) -> None:
    report = measure_compression(generator, zoo)
    assert (report.split, report.checkpoints, report.encoded) == ("val", 208, 0)
    values = sum(generator.spec(r.arch).size for r in zoo.select(held_out=False))
    assert report.form("float32").bytes == 2 * report.form("float16").bytes == 4 * values
    assert report.form("int8+zstd").bytes < values * 1.05
    shipped = sum(file.stat().st_size for file in (ASSETS / "generators" / "digits").iterdir())
    assert report.form("generator").bytes == pytest.approx(shipped, rel=0.01)
    assert report.retrieval_bytes < report.form("generator").bytes
    assert report.form("float32").loss.worst == 0
    assert abs(report.form("float16").loss.mean) < 0.001 and abs(report.form("int8+zstd").loss.mean) < 0.002
    assert report.form("generator").loss.worst >= report.form("generator").loss.mean
    again = Compression.from_json(json.loads(json.dumps(report.to_json())))
    assert again == report
    assert [row[0] for row in compression_rows(again)[1]][-2:] == ["generator", "decoder + codes"]
    titles, rows = arch_rows(again)
    assert titles == ["", *generator.specs]
    assert [row[0] for row in rows][:2] == ["accuracy", "float16"] and rows[-1][0].endswith(", worst")


def test_checkpoints_that_it_does_not_hold_are_encoded(generator: Generator, zoo: Zoo) -> None:
    shown: list[tuple[int, int]] = []
    report = measure_compression(generator, zoo, held_out=True, on_progress=lambda *done: shown.append(done))
    assert shown[0][0] == 0 and shown[-1] == (4 * report.checkpoints, 4 * report.checkpoints)
    assert report.checkpoints == report.encoded == 104
    assert report.form("generator").bytes == generator_bytes(generator)[0] + 104 * 2 * (32 + 32)
    assert abs(report.form("generator").loss.mean) < 0.02


def test_a_zoo_alone_in_every_codec(zoo: Zoo, popgen: Any, tmp_path: Path) -> None:
    small = Zoo.create(tmp_path / "three", "three")
    start = zoo.start("cnn-s")
    assert start is not None
    small.set_starts({"cnn-s": start})
    records = zoo.select(arch="cnn-s", data="digits/rotate:30")
    small.add(zip(records, zoo.matrix(records), strict=True))
    small.finalize()
    found = Compression.from_json(popgen("compression", "--zoo", small.folder, "--json").json)
    assert (found.checkpoints, found.retrieval_bytes) == (2, None)
    assert [form.name for form in found.forms] == [
        *("float32", "float16", "int8+zstd", "archive lossless", "archive float16"),
        *(f"archive int{bits}" for bits in (8, 6, 5, 4, 3)),
        *("archive rank95", "archive rank80", "archive rank50", "archive 1-bit"),
    ]
    assert found.form("archive lossless").loss == Lost(0, 0)
    sizes = [found.form(f"archive {name}").bytes for name in ("lossless", "float16", "int8", "int4", "1-bit")]
    assert sizes == sorted(sizes, reverse=True) and found.form("float32").bytes == 2 * 4 * zoo.spec("cnn-s").size
    assert abs(found.form("archive int8").loss.mean) < 0.01 < found.form("archive 1-bit").loss.mean
    text = popgen("compression", "--zoo", small.folder).out
    assert "archive int4" in text and "decoder + codes" not in text
    assert "name a generator, or a zoo" in popgen("compression", code=2).err


def test_a_zoo_of_other_architectures_is_refused(
    generator: Generator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    empty = Zoo.create(tmp_path_factory.mktemp("zoos") / "empty", "empty")
    with pytest.raises(BadInput, match=r"(?s)'empty' has no such checkpoints.*mlp-s.*Name the zoo"):
        measure_compression(generator, empty)
    with pytest.raises(BadInput, match="'empty' has no checkpoints"):
        measure_compression(None, empty, held_out=None)
    with pytest.raises(NotFound, match="split called 'vall'"):
        measure_compression(generator, empty, "vall")
