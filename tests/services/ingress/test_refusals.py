"""What callers hear where the rollout controller gives them no version: never a path or an address."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from components.errors import ComponentError
from components.reference import Selector
from registry.errors import NoSuchVersionError, RegistryAwayError, RegistryError
from services.errors import FieldError, UnavailableError
from services.rollout.deployment import RolloutDeployment

FIELD = "components.vae_decoder"
VERSION = "toy.vae_decoder/3"


def ask(raised: Exception, selector: str = VERSION) -> None:
    async def component(_selector: Selector) -> None:
        raise raised

    shell: Any = SimpleNamespace(_controller=SimpleNamespace(component=component))
    asyncio.run(RolloutDeployment.component(shell, selector, FIELD))


def test_that_there_is_no_such_version_is_told(serve_log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FieldError) as caught:
        ask(NoSuchVersionError.absent("toy.vae_decoder", 3))
    said = f"{FIELD}: toy.vae_decoder/3 is not in the registry"
    assert (caught.value.message, caught.value.param) == (said, FIELD)
    assert serve_log.messages == []


@pytest.mark.parametrize(
    "error",
    [
        # the words alone do not make it one
        RegistryError("toy.vae_decoder/3 is not in the registry"),
        RegistryError("the registry at http://mlflow.internal:5000 refused: toy.vae_decoder/3 is not in the registry"),
        RegistryError("the folder /root/.latentworks/locks cannot be used: Permission denied"),
        RegistryError("another process has kept the lock store.lock for 60 s"),
        RegistryError("toy.vae_decoder/3: the cache /root/.latentworks cannot be written: No space left on device"),
        ComponentError("/root/.latentworks/components/x: component.json is missing"),
    ],
    ids=str,
)
def test_anything_else_is_for_the_log(error: Exception, serve_log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnavailableError) as caught:
        ask(error)
    assert caught.value.message == f"{FIELD}: {VERSION} cannot be looked up just now; try again later"
    assert serve_log.messages == [f"{VERSION} cannot be looked up: {error}"]


def test_a_selector_that_is_none_and_a_registry_that_is_away() -> None:
    with pytest.raises(FieldError, match="'nonsense': must be NAME@ALIAS or NAME/VERSION"):
        ask(AssertionError("nobody is to be asked"), "nonsense")
    with pytest.raises(UnavailableError, match="the registry does not answer, which alone knows this version"):
        ask(RegistryAwayError("the registry at http://mlflow.internal cannot be reached"))
