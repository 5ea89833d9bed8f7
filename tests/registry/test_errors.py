"""What anybody may read of what is not there."""

from collections.abc import Callable

import pytest

from components.errors import ComponentError
from components.reference import ComponentRef
from registry.errors import NoSuchVersionError, RegistryAwayError, RegistryError

NAME = "emoji.vae_decoder"
DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoSuchVersionError.absent(NAME), "emoji.vae_decoder is not in the registry"),
        (NoSuchVersionError.absent(NAME, 2**70), f"emoji.vae_decoder/{2**70} is not in the registry"),
        (
            NoSuchVersionError.without_alias(NAME, "nope", {"production": 1, "candidate": 2}),
            "emoji.vae_decoder has no alias 'nope'; it has candidate, production",
        ),
        (NoSuchVersionError.without_alias(NAME, "nope", []), "emoji.vae_decoder has no alias 'nope'; it has none"),
        (
            NoSuchVersionError.foreign(NAME, 3, "sha256"),
            "emoji.vae_decoder/3 was not published by Latentworks: its tag sha256 is missing",
        ),
        (
            NoSuchVersionError.foreign(NAME, 3, None),
            "emoji.vae_decoder/3 was not published by Latentworks: "
            "its tags sha256 and contract are not those of a component",
        ),
        (
            NoSuchVersionError.untried(ComponentRef(name=NAME, version=3, sha256=DIGEST)),
            "emoji.vae_decoder/3 has not passed the gate",
        ),
    ],
    ids=str,
)
def test_each_is_one_sentence(error: NoSuchVersionError, said: str) -> None:
    assert str(error) == said
    assert isinstance(error, RegistryError)
    assert not isinstance(error, RegistryAwayError)


@pytest.mark.parametrize("name", ["/home/me/x", "http://mlflow.internal:5000", "emoji.vae_decoder /x", "\x1b[2J", ""])
def test_none_is_made_of_what_is_no_components_name(name: str) -> None:
    ref = ComponentRef(name=NAME, version=1, sha256=DIGEST).model_copy(update={"name": name})
    made: list[Callable[[], NoSuchVersionError]] = [
        lambda: NoSuchVersionError.absent(name),
        lambda: NoSuchVersionError.without_alias(name, "nope", []),
        lambda: NoSuchVersionError.foreign(name, 1, None),
        lambda: NoSuchVersionError.untried(ref),
    ]
    for make in made:
        with pytest.raises(ComponentError, match="must be <bundle>"):
            make()
