"""`inspect`, `verify`, `compare`, `models` and `status`: what a picture, kept latents and a server tell."""

from pathlib import Path
from typing import Annotated, Any

import typer

from registry.commands.server_status import ServerStatus
from services.client.answers import Readiness, public
from services.client.blocking import Client
from services.client.commands.destination import Destination, Force
from services.client.commands.printing import Exit, Json, KeyFile, Url, connected, read_file, say, write
from services.client.errors import InputError, ServerRefused

app = typer.Typer()

_NOT_OURS = (401, 403)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A PNG, JPEG or WebP file.")],
    url: Url = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Say how a picture was made, and what makes it again."""
    data = read_file("FILE", file)
    with connected(url, key_file) as client:
        found = client.inspect(data)
    facts: list[tuple[str, str]] = [("source", found.source)]
    facts += [("model", found.model)] if found.model is not None else []
    facts += [(name, str(value)) for name, value in found.request.items()]
    facts += [(kind, str(pin)) for kind, pin in found.components.items()]
    facts += [("fallback for", str(found.fallback_for))] if found.fallback_for is not None else []
    facts += [("not understood", part) for part in found.unknown]
    write(public(found), facts, as_json)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A PNG, JPEG or WebP file.")],
    source: Annotated[Path | None, typer.Option(help="The picture that it was made from.")] = None,
    mask: Annotated[Path | None, typer.Option(help="The mask that it was made with.")] = None,
    depth: Annotated[Path | None, typer.Option(help="The depth map that it was made with.")] = None,
    control: Annotated[
        list[Path] | None, typer.Option(help="A control picture that held it; several in their order.")
    ] = None,
    image_prompt: Annotated[
        list[Path] | None, typer.Option(help="A picture that it was to be like; several in their order.")
    ] = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Draw a picture again by the versions of its story, and say whether the pixels are equal; status 1 if not."""
    data = read_file("FILE", file)
    given = (("--source", source), ("--mask", mask), ("--depth", depth))
    begun, hole, near = [None if one is None else read_file(name, one) for name, one in given]
    controls = [read_file("--control", one) for one in control or ()]
    alike = [read_file("--image-prompt", one) for one in image_prompt or ()]
    with connected(url, key_file) as client:
        found = client.verify(data, begun, hole, near, controls, alike)
    facts = [("equal", "yes" if found.equal else "no")]
    if not found.equal:
        size = "another than its story tells" if found.differing_pixels is None else "the same"
        facts += [("size", size)]
    if found.differing_pixels:
        facts += [
            ("differing pixels", str(found.differing_pixels)),
            ("by at most", f"{found.largest_difference} of 255"),
        ]
    facts += [(one.kind, str(one.present)) for one in found.components]
    write(public(found), facts, as_json)
    if not found.equal:
        raise typer.Exit(Exit.FAILED)


@app.command()
def compare(
    latents: Annotated[str, typer.Argument(help="The id of kept latents.")],
    first: Annotated[str, typer.Argument(help="A VAE decoder: NAME@ALIAS or NAME/VERSION.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    out: Annotated[Path, typer.Option(help="The PNG file.")],
    user: Annotated[str | None, typer.Option(help="Whose latents they are.")] = None,
    force: Force = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Show what two VAE decoders make of the same latents, and where they differ, as one PNG."""
    destination = Destination.of(out, 1, None, force=force)
    if destination.name is None or destination.format != "png":
        raise InputError("--out: must end in .png")
    destination.require_free([])
    with connected(url, key_file) as client:
        found = client.compare(latents, first, second, user=user)
    path = destination.save(found.sheet, found.seed, None)
    facts = [
        ("file", str(path)),
        ("identical", "yes" if found.identical else "no"),
        ("PSNR", "infinite" if found.psnr_db is None else f"{found.psnr_db:g} dB"),
        ("largest difference", f"{found.max_difference} of 255"),
    ]
    write({"file": str(path), "identical": found.identical, **public(found)}, facts, as_json)


@app.command()
def models(url: Url = None, key_file: KeyFile = None, as_json: Json = False) -> None:
    """List the bundles that are served."""
    with connected(url, key_file) as client:
        found = client.models()
    write([public(one) for one in found], [(one.id, one.owned_by) for one in found], as_json)


@app.command()
def status(url: Url = None, key_file: KeyFile = None, as_json: Json = False) -> None:
    """Say whether pictures can be drawn now, and what is live where the key may know it."""
    with connected(url, key_file) as client:
        ready = client.ready()
        rollout = _rollout(client)
    data = {"ready": public(ready), "rollout": None if rollout is None else public(rollout)}
    write(data, _facts(ready, rollout), as_json)


def _rollout(client: Client) -> ServerStatus | None:
    try:
        return client.rollout()
    except ServerRefused as error:
        if error.status not in _NOT_OURS:
            raise
        say("what is live is told to a key with the role operate")
        return None


def _facts(ready: Readiness, rollout: ServerStatus | None) -> list[tuple[str, str]]:
    away = "" if ready.registry_away_s is None else f" for {ready.registry_away_s:.0f} s"
    facts = [
        ("status", ready.status),
        ("registry", f"{ready.registry}{away}"),
        ("replicas", "\n".join(f"{name} {count}" for name, count in ready.replicas.items())),
    ]
    if rollout is not None:
        told: dict[str, Any] = {"bundle": rollout.bundle, "live": "\n".join(map(str, rollout.live))}
        facts += [*told.items(), ("rollout", rollout.state)]
    return facts
