"""Progress on stderr where it is not a terminal."""

import math
import re

import pytest

from popgen.cli.output import TrainBars
from popgen.progress import Bars


def test_plain_lines_say_what_is_done_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(plain_seconds=0) as bars:
        for done in range(3):
            bars.update("training", done, 2, "2 workers")
        bars.update("fetching", 5, None)
        bars.print("a remark")
    lines = re.sub(r"\d+ s left", "N s left", capsys.readouterr().err).splitlines()
    assert lines == [
        "training: 0 of 2, 2 workers",
        "training: 1 of 2, 2 workers, N s left",
        "training: 2 of 2, 2 workers",
        "fetching: 5",
        "a remark",
    ]


def test_between_the_first_and_the_last_line_time_has_to_pass(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(plain_seconds=math.inf) as bars:
        for done in range(50):
            bars.update("training", done, 49)
    assert capsys.readouterr().err.splitlines() == ["training: 0 of 49", "training: 49 of 49"]


def test_invisible_bars_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(visible=False, plain_seconds=0) as bars:
        bars.update("training", 0, 2)
        bars.print("a remark")
    assert capsys.readouterr() == ("", "")


def test_a_training_says_its_stage_its_losses_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainBars(plain_seconds=0) as bars:
        for step in (1, 2):
            bars.show("vae", step, 4, {"kl": 0.5})
    assert re.fullmatch(r"vae: 1 of 4, kl 0.500\nvae: 2 of 4, kl 0.500, \d+ s left\n", capsys.readouterr().err)
