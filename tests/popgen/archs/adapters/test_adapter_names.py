"""Names of adapters are read completely or refused with the part that does not fit."""

from __future__ import annotations

import re

import pytest

from popgen.archs.adapters.names import AdapterName, is_adapter, parse_adapter
from popgen.errors import BadInput, NotFound, PopgenError


def test_every_option_is_read() -> None:
    name = "lora:some/folder/r:8/alpha:32/targets:q_lin+v_lin/layers:1-2/context:64"
    assert parse_adapter(name) == AdapterName("some/folder", 8, 32, ("q_lin", "v_lin"), (1, 2), 64)


@pytest.mark.parametrize("base", ["minilm", "/data/base", "owner/name", "../base.d/v2"])
def test_a_base_may_hold_slashes(base: str) -> None:
    assert parse_adapter(f"lora:{base}") == AdapterName(base)
    assert parse_adapter(f"lora:{base}/layers:5").layers == (5, 5)


def test_only_the_prefix_makes_an_adapter() -> None:
    assert is_adapter("lora:x") and not is_adapter("loras") and not is_adapter("timm:lora")


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("lora:", BadInput, "'lora:' names no base"),
        ("lora:minilm/rank:4", NotFound, "there is no option of an adapter called 'rank'"),
        ("lora:minilm/r:4/r:8", BadInput, "'lora:minilm/r:4/r:8' gives r twice"),
        ("lora:minilm/r:0", BadInput, "r cannot be '0'"),
        ("lora:minilm/r:", BadInput, "r cannot be ''"),
        ("lora:minilm/alpha:1.5", BadInput, "alpha cannot be '1.5'"),
        ("lora:minilm/context:9999", BadInput, "context cannot be '9999'"),
        ("lora:minilm/r:²", BadInput, "r cannot be '²'"),
        ("lora:minilm/targets:query+", BadInput, "targets has an empty name"),
        ("lora:minilm/layers:3-1", BadInput, "layers cannot be '3-1'"),
        ("lora:minilm/layers:all", BadInput, "layers cannot be 'all'"),
    ],
)
def test_what_does_not_fit_is_named(name: str, kind: type[PopgenError], said: str) -> None:
    with pytest.raises(kind, match=re.escape(said)) as raised:
        parse_adapter(name)
    assert "lora:minilm/r:4/targets:query+value/layers:3-5" in str(raised.value) or "once" in str(raised.value)
