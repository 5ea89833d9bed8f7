"""What moves versions: promote, canary, shadow, rollback; and status, which shows how far they are."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table

from components.reference import DEFAULT_ALIAS, MAX_VERSION, ComponentRef
from registry.commands.printing import Json, Name, connected, make_table, printable, show_refs, write
from registry.commands.server_status import DEFAULT_SERVER, KEY_VARIABLE, SERVER_VARIABLE, ServerStatus, ask_server
from registry.errors import RegistryError
from registry.registry import Registry
from registry.rollout import steps
from registry.rollout.standing import Standing, standing
from registry.rollout.state import MOST_LEAST, Canary, Rollout, Shadow
from registry.rollout.steps import Step, Waits

app = typer.Typer()

Version = Annotated[int | None, typer.Argument(min=1, max=MAX_VERSION)]
Bundle = Annotated[str, typer.Argument(help="The bundle, such as emoji.")]
Share = Annotated[str | None, typer.Argument(metavar="PERCENT", help="The share of new requests, such as 5%.")]
Off = Annotated[bool, typer.Option("--off", help="End it.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for a server to take it up.")]

Offline = Annotated[bool, typer.Option("--offline", help="Change it although its server is known, and away for good.")]

_WAIT_S = Waits().taken_up_s
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class _Part(NamedTuple):
    """A version and its share of new requests."""

    ref: ComponentRef
    percent: float


@app.command()
def promote(
    what: Annotated[list[str], typer.Argument(metavar="NAME VERSION ...", help="Names, each with its new version.")],
    alias: Annotated[str, typer.Option(help="The alias to move.")] = DEFAULT_ALIAS,
    wait: Wait = _WAIT_S,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Have versions go live together, once they have passed the gate and every replica has prepared them.

    Another alias than production only points at them; nothing is served by it unless a request asks.
    """
    registry = connected()
    refs = _versions(registry, what)
    if alias == DEFAULT_ALIAS:
        _take(lambda waits: steps.promote(registry, refs, waits=waits), wait, offline, as_json)
    else:
        steps.point(registry, refs, alias)
        show_refs(refs, [ref.model_dump(mode="json") for ref in refs], as_json)


@app.command()
def canary(
    name: Name,
    version: Version = None,
    percent: Share = None,
    off: Off = False,
    sticky: Annotated[
        bool, typer.Option("--sticky", help="Choose by user, so that each stays with one version.")
    ] = False,
    least: Annotated[
        int, typer.Option(min=1, max=MOST_LEAST, help="Requests before it may be rolled back by itself.")
    ] = 20,
    error_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of errors above the live version's.")] = 0.05,
    non_finite_rate: Annotated[float, typer.Option(min=0, max=1, help="The same, of pictures not finite.")] = 0.02,
    wait: Wait = _WAIT_S,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Pin a share of new requests to a version, which ends by itself if it does badly."""
    registry = connected()
    part = _part(registry, name, version, percent, off=off)
    chosen = None
    if part is not None:
        chosen = Canary(
            ref=part.ref,
            percent=part.percent,
            sticky=sticky,
            least=least,
            error_rate=error_rate,
            non_finite_rate=non_finite_rate,
        )
    _take(lambda waits: steps.canary(registry, name, chosen, waits=waits), wait, offline, as_json)


@app.command()
def shadow(
    name: Name,
    version: Version = None,
    percent: Share = None,
    off: Off = False,
    wait: Wait = _WAIT_S,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Have a VAE decoder decode a share of live latents once more after their answers, to compare the two."""
    registry = connected()
    part = _part(registry, name, version, percent, off=off)
    chosen = None if part is None else Shadow(ref=part.ref, percent=part.percent)
    _take(lambda waits: steps.shadow(registry, name, chosen, waits=waits), wait, offline, as_json)


@app.command()
def rollback(bundle: Bundle, wait: Wait = _WAIT_S, offline: Offline = False, as_json: Json = False) -> None:
    """Undo the last step: a canary ends, or what was live before the last promotion comes back."""
    _take(lambda waits: steps.rollback(connected(), bundle, waits), wait, offline, as_json)


@app.command()
def status(
    bundle: Annotated[str | None, typer.Argument(help="The bundle, where no server is asked.")] = None,
    server: Annotated[str, typer.Option(envvar=SERVER_VARIABLE, help="Where the server is.")] = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Show what is live, what is on its way, and what every replica has loaded, prepares or could not load, and why.

    With the name of a bundle the registry alone is asked.
    """
    if bundle is None:
        # no option, which other users of the machine could see
        found, answer = ask_server(server, os.environ.get(KEY_VARIABLE))
        if as_json:
            typer.echo(json.dumps(answer, indent=2))
        else:
            _show_server(found)
    else:
        _show_standing(bundle, standing(connected(), bundle), as_json)


def _show_server(found: ServerStatus) -> None:
    away = found.registry_away_s
    facts = {
        "bundle": found.bundle,
        "state": found.state,
        "reason": found.reason,
        "registry": "answers" if away is None else f"has not answered for {away:.0f} s",
        "live": _listed(found.live),
        "preparing": None if found.preparing is None else _listed(found.preparing),
        "fallback": "none" if found.fallback is None else str(found.fallback),
        "canary": _role(found.canary),
        "shadow": _role(found.shadow),
        "refused": "\n".join(f"{one}: {one.reason}" for one in found.refused),
    }
    write(None, _facts(facts), False)
    typer.echo("")
    table = make_table("stage", "replica", "version", "state", "MB", "opened in", "in use", "why")
    for stage, replicas in found.replicas.items():
        for replica in replicas:
            for one in replica.versions:
                size, opened = f"{one.bytes / 1e6:.1f}", f"{one.seconds:.2f} s"
                cells = (stage, replica.replica, str(one), one.state, size, opened, str(one.users), one.reason or "")
                table.add_row(*map(printable, cells))
    write(None, table, False)


def _role(role: dict[str, Any] | None) -> str | None:
    if role is None:
        return None
    rest = {key: value for key, value in role.items() if key not in ("name", "version", "sha256")}
    return f"{role.get('name')}/{role.get('version')} {json.dumps(rest)}"


def _show_standing(bundle: str, found: Standing, as_json: bool) -> None:
    recorded = found.live if isinstance(found.live, Rollout) else None
    live = found.live.model_dump(mode="json")
    data = {
        "bundle": bundle,
        "state": None if recorded is None else recorded.state,
        "reason": None if recorded is None else recorded.reason,
        "live": live["components"],
        "canary": live["canary"],
        "shadow": live["shadow"],
        "previous": live.get("previous", []),
        "pending": None if found.pending is None else found.pending.model_dump(mode="json"),
    }
    facts = {
        "bundle": bundle,
        "state": "no server has served it yet" if recorded is None else recorded.state,
        "reason": data["reason"],
        "live": _listed(found.live.components),
        "canary": _beside(found.live.canary),
        "shadow": _beside(found.live.shadow),
        "before": _listed(() if recorded is None else recorded.previous),
        "wanted": None if found.pending is None else _listed(found.pending.components),
    }
    write(data, _facts(facts), as_json)


def _facts(facts: Mapping[str, str | None]) -> Table:
    table = make_table("", "")
    table.show_header = False
    for name, value in facts.items():
        if value:
            table.add_row(name, printable(value))
    return table


def _listed(refs: Iterable[object]) -> str:
    return ", ".join(map(str, refs))


def _beside(extra: Canary | Shadow | None) -> str | None:
    return None if extra is None else f"{extra.ref}, {extra.percent:g} % of new requests"


def _take(step: Callable[[Waits], Step], wait: float, offline: bool, as_json: bool) -> None:
    """Take a step with the patience that the options ask for, and say what became of it."""
    rollout, served = step(Waits(wait, offline=offline))
    if as_json:
        typer.echo(json.dumps({"served": served, **rollout.model_dump(mode="json")}, indent=2))
        return
    show_refs(list(rollout.components), None, False)
    for role, extra in (("canary", rollout.canary), ("shadow", rollout.shadow)):
        if extra is not None:
            typer.echo(f"{role}: {_beside(extra)}")
    if not served:
        typer.echo("no server follows this registry just now; the next start serves these", err=True)


def _versions(registry: Registry, what: list[str]) -> list[ComponentRef]:
    if len(what) % 2:
        raise RegistryError(f"{len(what)} arguments: give each name with its version")
    return [_version(registry, name, version) for name, version in zip(what[::2], what[1::2], strict=True)]


def _version(registry: Registry, name: str, version: str) -> ComponentRef:
    if not _VERSION.fullmatch(version):
        raise RegistryError(f"{name} {version[:20]}: a version is a whole number from 1 to {MAX_VERSION}")
    return registry.version(name, int(version)).ref


def _percent(text: str) -> float:
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise RegistryError(f"percent={text!r}: must be a number over 0 and at most 100, such as 5%")
    return percent


def _part(registry: Registry, name: str, version: int | None, percent: str | None, *, off: bool) -> _Part | None:
    """What the arguments give a share to, None where they end that."""
    if off == (version is not None or percent is not None):
        raise RegistryError("give a version and a percentage, or --off")
    if off:
        return None
    if version is None or percent is None:
        raise RegistryError("give a version and a percentage")
    return _Part(_version(registry, name, str(version)), _percent(percent))
