"""Arguments from a flat command line, the environment and the defaults."""

import pytest
from pydantic import ValidationError

from services.settings import GraphArgs


def test_dotted_names_reach_their_part_and_leave_the_rest() -> None:
    args = GraphArgs.model_validate({"denoiser.replicas": "2", "text_encoder.provider": "cpu", "rules.max_images": "9"})
    assert (args.denoiser.replicas, args.denoiser.num_cpus) == (2, GraphArgs().denoiser.num_cpus)
    assert (args.text_encoder.provider, args.text_encoder.threads) == ("cpu", 1)
    assert args.rules.max_images == 9


def test_environment_fills_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTWORKS_DENOISER__THREADS", "3")
    monkeypatch.setenv("LATENTWORKS_BUNDLE", "other")
    args = GraphArgs.model_validate({"denoiser.replicas": 2, "bundle": "mine"})
    assert (args.denoiser.threads, args.denoiser.replicas, args.bundle) == (3, 2, "mine")


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"denoisr.replicas": 1}, "denoisr"),
        ({"denoiser.replica": 1}, "denoiser.replica"),
        ({"denoiser.replicas": 0}, "denoiser.replicas"),
        ({"denoiser.num_cpus": "nan"}, "denoiser.num_cpus"),
        ({"denoiser.provider": "tpu"}, "denoiser.provider"),
        ({"vae_decoder.threads": -1}, "vae_decoder.threads"),
        ({"bundle": "../x"}, "bundle"),
        ({"ingress.max_images": 0}, "ingress.max_images"),
    ],
)
def test_a_wrong_argument_is_named(given: dict[str, object], where: str) -> None:
    with pytest.raises(ValidationError) as raised:
        GraphArgs.model_validate(given)
    assert ".".join(str(part) for part in raised.value.errors()[0]["loc"]) == where


def test_a_part_given_as_a_whole_and_in_pieces_is_refused() -> None:
    with pytest.raises(ValidationError):
        GraphArgs.model_validate({"denoiser": "x", "denoiser.replicas": 1})
