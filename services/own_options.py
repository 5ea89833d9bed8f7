"""Options that a stage's deployment has of its own, beside what the whole graph was built with.

What the graph is built with reaches every deployment, and a change of it starts all of them anew. So a config file of
Serve names a stage's options in that deployment's own environment, and a change there exchanges its replicas alone:

    - name: denoiser
      ray_actor_options: {runtime_env: {env_vars: {LATENTWORKS_DENOISER__RUN_ROWS: "16"}}}
"""

from collections.abc import Mapping
from typing import TypeVar

import ray
from pydantic import ValidationError

from services.deployment_args import TOLD_TO_SERVE
from services.errors import StartError
from services.stage_args import StageArgs
from services.variables import variable_of
from services.wrong_arguments import sentence_of

# a stage has a thread for each call that Serve lets in
_TOLD_TO_BOTH = {"max_ongoing_requests"}

Args = TypeVar("Args", bound=StageArgs)


def with_own_options(args: Args, part: str) -> Args:
    """A stage's arguments, with those that this replica's own environment names in place of the graph's.

    Raises:
        StartError: a variable of the part is no option of replicas, or has a value outside its limits.
    """
    if not ray.is_initialized():
        return args
    return chosen(args, part, ray.get_runtime_context().runtime_env.get("env_vars") or {})


def chosen(args: Args, part: str, variables: Mapping[str, str]) -> Args:
    """A stage's arguments with what variables say of its part; others are left out of account.

    Raises:
        StartError: as `with_own_options`.
    """
    known = {variable_of(part, field): field for field in own_fields(type(args))}
    named = {name: value for name, value in variables.items() if name.startswith(variable_of(part, ""))}
    unknown = sorted(named.keys() - known.keys())
    if unknown:
        raise StartError(f"{unknown[0]}: no option of a replica of {part}; those are {', '.join(sorted(known))}")
    try:
        return type(args)(**{**args.model_dump(), **{known[name]: value for name, value in named.items()}})
    except ValidationError as error:
        raise StartError(sentence_of(error, lambda *path: variable_of(part, *path))) from None


def own_fields(args: type[StageArgs]) -> tuple[str, ...]:
    """What replicas of a stage take from their own environment."""
    return tuple(field for field in args.model_fields if field not in TOLD_TO_SERVE - _TOLD_TO_BOTH)
