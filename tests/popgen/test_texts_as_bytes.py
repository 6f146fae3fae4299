"""Texts become bytes and come back."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from popgen.texts import LONGEST, PAIR, join_pair, same_text, split_pair, to_bytes, to_texts

texts = st.text(max_size=40)


@given(st.lists(texts, max_size=6))
def test_texts_come_back(given: list[str]) -> None:
    examples = to_bytes(given)
    assert examples.dtype == torch.uint8 and examples.shape[0] == len(given)
    assert to_texts(examples) == [text.replace("\x00", " ") for text in given]


@given(st.lists(texts, min_size=1, max_size=4), st.integers(1, 30))
def test_a_cut_text_is_the_beginning_of_it(given: list[str], longest: int) -> None:
    examples = to_bytes(given, longest)
    assert examples.shape[1] <= longest
    for text, cut in zip(given, to_texts(examples), strict=True):
        plain = text.replace("\x00", " ")
        assert plain.startswith(cut)
        assert len(plain.encode()) <= longest or len(cut.encode()) > longest - 4, "only a halved character is left out"


@given(texts.filter(lambda t: PAIR not in t), texts.filter(lambda t: PAIR not in t), st.integers(9, 40))
def test_both_texts_of_a_pair_are_kept(first: str, second: str, longest: int) -> None:
    assert split_pair(join_pair(first, second)) == (first, second)
    joined = join_pair(first, second, longest)
    assert len(joined.encode()) <= longest
    one, two = split_pair(joined)
    assert two is not None and first.startswith(one) and second.startswith(two)
    shorter = min((first, one), (second, two), key=lambda pair: len(pair[0].encode()))
    assert len(shorter[0].encode()) > (longest - 1) // 2 or shorter[0] == shorter[1], "the longer one is cut first"


def test_a_text_alone_is_no_pair() -> None:
    assert split_pair(join_pair("alone", None)) == ("alone", None)
    assert to_bytes([]).shape == (0, 0)
    assert to_bytes(["x" * (LONGEST + 5)]).shape == (1, LONGEST)


def test_case_and_white_space_make_no_other_text() -> None:
    assert same_text("One  TWO\n") == same_text("one two") != same_text("onetwo")
