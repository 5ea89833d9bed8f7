"""Errors say field, value and limit, also after a trip to another process."""

import pickle

import pytest

from diffusion.errors import DiffusionError, UnknownNameError, require_between, require_integer, unknown_name


def test_message_names_field_value_and_limit() -> None:
    with pytest.raises(DiffusionError, match=r"^steps=0: must be a whole number between 1 and 50$"):
        require_integer("steps", 0, 1, 50)
    with pytest.raises(DiffusionError, match=r"^eta=1.5: must be between 0 and 1$"):
        require_between("eta", 1.5, 0, 1)


@pytest.mark.parametrize("error", [DiffusionError("eta", 2.0, "between 0 and 1"), unknown_name("sampler", "x", ["a"])])
def test_errors_survive_pickling(error: DiffusionError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.field, copy.value, copy.limit) == (str(error), error.field, error.value, error.limit)


def test_errors_are_value_errors() -> None:
    assert issubclass(UnknownNameError, DiffusionError)
    assert issubclass(DiffusionError, ValueError)


def test_limits_themselves_pass() -> None:
    for value in (1, 50):
        require_integer("steps", value, 1, 50)
    for eta in (0.0, 1.0):
        require_between("eta", eta, 0, 1)
