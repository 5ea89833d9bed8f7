"""The composition root: the whole graph from typed arguments; nothing else knows how the deployments hang together."""

from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError
from ray import serve
from ray.serve import Application, Deployment

from components.contract import FURTHER_PARTS, PARTS, Kind
from components.errors import ComponentError
from pipeline.bundle import open_bundle, those_there
from registry.errors import RegistryError
from services.adapter import AdapterDeployment
from services.denoiser import DenoiserDeployment, DenoiserSettings
from services.deployment_args import DeploymentArgs
from services.files.store import StoreSettings
from services.graph import GraphDeployment, GraphSettings
from services.image_encoder import ImageEncoderDeployment
from services.ingress.deployment import IngressDeployment
from services.ingress.faces import IngressSettings
from services.jobs.deployment import JobsDeployment
from services.keys.exposure import require_keys
from services.keys.source import KeySource
from services.latents.deployment import LatentsDeployment
from services.launch import Telemetry, launch
from services.rollout.deployment import RolloutDeployment
from services.rollout.settings import RolloutSettings
from services.settings import GraphArgs
from services.stage_host import StageSettings
from services.text_encoder import TextEncoderDeployment, TextEncoderSettings
from services.vae_decoder import VaeDecoderDeployment
from services.vae_encoder import VaeEncoderDeployment
from services.wrong_arguments import sentence_of

_MODELS = Path(__file__).resolve().parent / "models"

graph: Application
configured: Application


def __getattr__(name: str) -> Any:
    """Make the application of the environment's arguments when it is asked for: importing does nothing.

    `configured` is that of a config file of `services.config`, which names many arguments elsewhere and has checked how
    all of them go together.
    """
    if name == "graph":
        return build(arguments({}))
    if name == "configured":
        return build(_read({}))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def arguments(given: dict[str, Any]) -> GraphArgs:
    """Check arguments, by name or by dotted name, and fill in the rest from the environment and the defaults.

    Raises:
        click.ClickException: one is unknown or has a value outside its limits, or they do not go together.
    """
    args = _read(given)
    try:
        args.require_room()
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    return args


def build(args: GraphArgs | dict[str, Any]) -> Application:
    """Make the application; the bundle's folder is read and checked, nothing starts and nothing is written.

    Serve hands over what `serve run` or a config file names as it is: were the annotation the model alone, it would
    check the arguments itself, and show a stack for a wrong one.

    Raises:
        click.ClickException: an argument is wrong, or the folder's components are not whole or do not fit together.
            `serve run` shows this error, and no other, as one sentence.
    """
    if isinstance(args, dict):
        args = arguments(args)
    folder = _folder(args)
    if folder is not None:
        try:
            open_bundle(folder, (*PARTS, *those_there(folder, *FURTHER_PARTS)))
        except ComponentError as error:
            raise click.ClickException(f"bundle {args.bundle}: {error}") from None
    rollout = _deployment(RolloutDeployment, "rollout", args.rollout).bind(_rollout(args, folder))
    encoder = _deployment(TextEncoderDeployment, "text_encoder", args.text_encoder)
    third_encoder = _deployment(TextEncoderDeployment, "third_text_encoder", args.third_text_encoder)
    denoiser = _deployment(DenoiserDeployment, "denoiser", args.denoiser)
    vae_decoder = _deployment(VaeDecoderDeployment, "vae_decoder", args.vae_decoder)
    vae_encoder = _deployment(VaeEncoderDeployment, "vae_encoder", args.vae_encoder)
    adapter = _deployment(AdapterDeployment, "adapter", args.adapter)
    image_encoder = _deployment(ImageEncoderDeployment, "image_encoder", args.image_encoder)
    common = {"registry": args.registry, "compiler": args.compiler.settings(args.registry.home)}
    denoising = DenoiserSettings(**common, args=args.denoiser, rules=args.rules)
    latents = _deployment(LatentsDeployment, "latents", args.latents).bind(*_stores(args))
    chain = _deployment(GraphDeployment, "graph", args.graph).bind(
        text_encoder=encoder.bind(rollout, TextEncoderSettings(**common, args=args.text_encoder)),
        third_text_encoder=third_encoder.bind(
            rollout, TextEncoderSettings(**common, args=args.third_text_encoder), Kind.THIRD_TEXT_ENCODER
        ),
        denoiser=denoiser.bind(rollout, denoising),
        vae_decoder=vae_decoder.bind(rollout, StageSettings(**common, args=args.vae_decoder)),
        vae_encoder=vae_encoder.bind(rollout, StageSettings(**common, args=args.vae_encoder)),
        adapter=adapter.bind(StageSettings(**common, args=args.adapter)),
        image_encoder=image_encoder.bind(StageSettings(**common, args=args.image_encoder)),
        rollout=rollout,
        latents=latents,
        settings=GraphSettings(
            snapshot_every=args.graph.snapshot_every,
            shadows=args.graph.shadows,
            max_held=args.graph.max_held,
            write_prompts=args.graph.write_prompts,
        ),
    )
    jobs = _deployment(JobsDeployment, "jobs", args.jobs).bind(chain, latents, rollout, _job_database(args), args.jobs)
    front = IngressSettings(
        rules=args.rules,
        max_images=args.ingress.max_images,
        retry_after_s=args.ingress.retry_after_s,
        public_url=args.ingress.public_url,
        trust_forwarded=args.ingress.trust_forwarded,
        webhook_secret=args.ingress.webhook_secret,
        webhook_http=args.jobs.webhook_http,
        webhook_private=args.jobs.webhook_private,
        keys=args.keys,
        timelines=args.timelines,
        open=args.ingress.open,
    )
    return _deployment(IngressDeployment, "ingress", args.ingress).bind(rollout, chain, latents, jobs, front)


def _read(given: dict[str, Any]) -> GraphArgs:
    try:
        return GraphArgs(**given)
    except ValidationError as error:
        raise click.ClickException(sentence_of(error)) from None
    except (RegistryError, SettingsError) as error:
        raise click.ClickException(str(error)) from None


def _deployment(shell: type, name: str, args: DeploymentArgs) -> Deployment:
    return serve.deployment(shell, name=name, **args.serve_options())


def _rollout(args: GraphArgs, folder: Path | None) -> RolloutSettings:
    return RolloutSettings(
        bundle=args.bundle,
        folder=folder,
        registry=args.registry,
        poll_s=args.rollout.poll_s,
        prepare_s=args.rollout.prepare_s,
        gate=args.rollout.gate,
    )


def _stores(args: GraphArgs) -> tuple[StoreSettings, StoreSettings]:
    """That of latents, and that of the pictures of links."""
    latents, pictures = (
        StoreSettings(
            store=str(args.registry.home / name) if part.store is None else part.store,
            most_bytes=part.most_bytes,
            keep_s=part.keep_s,
        )
        for name, part in (("latents", args.latents), ("pictures", args.links))
    )
    return latents, pictures


def _job_database(args: GraphArgs) -> SecretStr:
    if args.jobs.database is not None:
        return args.jobs.database
    # of a path from the root a URL has four slashes
    return SecretStr(f"sqlite:///{args.registry.home / 'jobs' / 'jobs.sqlite3'}")


def _folder(args: GraphArgs) -> Path | None:
    if args.folder is not None:
        return args.folder.expanduser().absolute()
    bundled = _MODELS / args.bundle
    return bundled if bundled.is_dir() else None


@click.command()
@click.argument("given", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True, help="where to listen")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--json-logs", is_flag=True, help="write Serve's logs as JSON")
@click.option(
    "--trace-share",
    type=click.FloatRange(0, 1),
    help="write OpenTelemetry traces, of that share of the requests whose callers do not decide; 0: none at all",
)
def main(given: tuple[str, ...], host: str, port: int, json_logs: bool, trace_share: float | None) -> None:
    """Start the graph on this machine and serve until a signal comes; arguments are such as denoiser.replicas=2.

    Like `serve run ray_app:graph`; but it says in one sentence why it cannot start, and lets requests finish when it
    is stopped.
    """
    pairs = (pair.partition("=") for pair in given)
    named = {name: value for name, _, value in pairs}

    def make() -> Application:
        args = arguments(named)
        # the ingress looks too, as `serve run` listens where Serve is told to; here it is told before Ray starts
        require_keys(host, has_keys=KeySource(args.keys).keyring is not None, is_open=args.ingress.open)
        return build(args)

    launch(make, host, port, Telemetry(json_logs, trace_share))


if __name__ == "__main__":
    main()
