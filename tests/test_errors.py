"""Errors carry their message from process to process; choices and least values are checked."""

import pickle
from typing import Literal

import pytest

from dualstream.errors import InputError, UnknownNameError, check_choice, check_least

Color = Literal["red", "green"]


def test_a_choice_is_one_of_a_literal():
    check_choice("color", "red", Color)
    with pytest.raises(UnknownNameError, match=r"^Unknown color 'gren'\. Did you mean 'green'\?"):
        check_choice("color", "gren", Color)


def test_least_values():
    check_least(1, workers=1, steps=2)
    with pytest.raises(InputError, match=r"^steps must be at least 1, got 0\.$"):
        check_least(1, workers=1, steps=0)


def test_an_unknown_name_can_be_sent_to_another_process():
    error = UnknownNameError("color", "gren", ("red", "green"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
