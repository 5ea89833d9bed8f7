"""The sentence that says what is wrong with arguments."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.settings import GraphArgs
from services.variables import variable_of
from services.wrong_arguments import sentence_of


def refused(given: dict[str, Any]) -> ValidationError:
    with pytest.raises(ValidationError) as raised:
        GraphArgs.model_validate(given)
    return raised.value


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"denoiser.run_rows": 1}, "denoiser.run_rows=1: Input should be greater than or equal to 2"),
        ({"rules.nothing": "x"}, "rules.nothing='x': Extra inputs are not permitted"),
        # a part is shown by its name alone, and where all go together wrongly the check names those at fault
        ({"nothing": {"a": 1}}, "nothing: Extra inputs are not permitted"),
        ({"denoiser.replicas": 3, "denoiser.max_replicas": 2}, "denoiser: max_replicas=2: must be at least replicas"),
        ({"ingress.max_images": 1}, "ingress.max_images=1: must be at least rules.max_images"),
        ({"ingress.webhook_secret": 12345}, "ingress.webhook_secret: Input should be a valid string"),
        ({"latents.store": "s3://me:secret@bucket"}, "latents.store='s3://***@bucket': must be a folder"),
    ],
)
def test_it_names_the_field_its_value_and_the_limit(given: dict[str, Any], sentence: str) -> None:
    assert sentence_of(refused(given)).startswith(sentence)


def test_fields_may_be_called_by_their_variables() -> None:
    said = sentence_of(refused({"denoiser.run_rows": 1}), variable_of)
    assert said == "LATENTWORKS_DENOISER__RUN_ROWS=1: Input should be greater than or equal to 2"
