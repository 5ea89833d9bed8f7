"""Every setting of a request as an option of a command, made from the fields that a client takes."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from pydantic import TypeAdapter, ValidationError

from services.client.commands.printing import read_file
from services.client.errors import InputError
from services.client.options import Hires

_SETTINGS = "settings"
_BOXES, _COMPONENTS, _HIRES = "boxes", "components", "hires"
_CONTROLS, _IMAGE_PROMPTS, _LORAS = "controls", "image_prompts", "loras"
_HOW = ("scale", "start", "end")


def with_settings(options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of `options`; its parameter `settings` gets those that were given."""
    fields = get_type_hints(options, include_extras=True)
    made = [_option(name, *get_args(hint)) for name, hint in fields.items()]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        parameters = [one for name, one in own.parameters.items() if name != _SETTINGS]

        @functools.wraps(command)
        def with_them(**given: Any) -> None:
            settings = {name: given.pop(name) for name in fields}
            command(**given, settings=_given(settings))

        # what typer reads
        with_them.__signature__ = own.replace(parameters=[*parameters, *made])  # type: ignore[attr-defined]
        with_them.__annotations__ = {one.name: one.annotation for one in (*parameters, *made)}
        return with_them

    return decorate


def _option(name: str, type_: Any, documented: Any) -> inspect.Parameter:
    said = documented.documentation
    default: bool | None = None
    if name == _COMPONENTS:
        annotation: Any = Annotated[list[str] | None, typer.Option("--component", metavar="KIND=VERSION", help=said)]
    elif name == _HIRES:
        annotation = Annotated[list[str] | None, typer.Option("--hires", metavar="FIELD=VALUE", help=said)]
    elif name == _BOXES:
        annotation = Annotated[list[str] | None, typer.Option("--box", metavar="X0,Y0,X1,Y1=PHRASE", help=said)]
    elif name == _CONTROLS:
        annotation = Annotated[list[str] | None, typer.Option("--control", metavar="MODEL=FILE[,...]", help=said)]
    elif name == _IMAGE_PROMPTS:
        annotation = Annotated[list[Path] | None, typer.Option("--image-prompt", metavar="FILE", help=said)]
    elif name == _LORAS:
        annotation = Annotated[list[str] | None, typer.Option("--lora", metavar="MODEL[=SCALE]", help=said)]
    elif type_ is bool:
        flag = typer.Option(f"--{name.replace('_', '-')}", help=said)
        annotation, default = Annotated[bool, flag], False
    else:
        annotation = Annotated[type_ | None, typer.Option(help=said)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in settings.items() if value is not None and value is not False}
    for name, flag, form in (
        (_COMPONENTS, "--component", "KIND=VERSION, such as vae_decoder=emoji.vae_decoder@candidate"),
        (_HIRES, "--hires", "FIELD=VALUE, such as scale=2"),
    ):
        pairs = _pairs(flag, form, found.pop(name, []))
        if pairs:
            found[name] = pairs
    if _HIRES in found:
        try:
            found[_HIRES] = TypeAdapter(Hires).validate_python(found[_HIRES])
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise InputError(f"--hires: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for name, read in ((_BOXES, _box), (_CONTROLS, _control), (_LORAS, _lora)):
        if texts := found.pop(name, None):
            found[name] = [read(text) for text in texts]
    if files := found.pop(_IMAGE_PROMPTS, None):
        found[_IMAGE_PROMPTS] = [read_file(f"--image-prompt: {file}", file) for file in files]
    return found


def _pairs(flag: str, form: str, given: list[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    if not all(name and value for name, _, value in pairs):
        raise InputError(f"{flag}: must be {form}")
    found = {name: value for name, _, value in pairs}
    if len(found) != len(pairs):
        raise InputError(f"{flag}: names the same twice")
    return found


def _box(text: str) -> dict[str, Any]:
    numbers, _, phrase = text.partition("=")
    try:
        return {"phrase": phrase, "box": [float(number) for number in numbers.split(",")]}
    except ValueError:
        raise InputError("--box: must be X0,Y0,X1,Y1=PHRASE, such as 0,0.5,0.5,1=a fox") from None


def _control(text: str) -> dict[str, Any]:
    """A control as it is written: MODEL=FILE, then how it holds; the file's name may have commas too."""
    model, _, rest = text.partition("=")
    parts = rest.split(",")
    how: dict[str, float] = {}
    while len(parts) > 1 and parts[-1].partition("=")[0] in _HOW:
        name, _, value = parts.pop().partition("=")
        how[name] = _number("--control", name, value)
    file = Path(",".join(parts))
    if not model or not rest:
        raise InputError("--control: must be MODEL=FILE, such as emoji.controlnet.edges=edges.png,scale=0.8")
    return {"model": model, "image": read_file(f"--control: {file}", file), **how}


def _lora(text: str) -> dict[str, Any]:
    """A LoRA as it is written: MODEL, and =SCALE if that is not 1."""
    model, equals, scale = text.partition("=")
    return {"model": model, "scale": _number("--lora", "scale", scale)} if equals else {"model": model}


def _number(option: str, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option}: {name}={text[:20]!r}: must be a number") from None
