"""Arguments from a flat command line, the environment and the defaults."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from registry.settings import VARIABLES
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


def test_a_part_may_be_given_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTWORKS_DENOISER", '{"threads": 3, "replicas": 4}')
    monkeypatch.setenv("LATENTWORKS_DENOISER__REPLICAS", "5")
    assert (GraphArgs().denoiser.threads, GraphArgs().denoiser.replicas) == (3, 5)
    monkeypatch.setenv("LATENTWORKS_DENOISER", "notjson")
    with pytest.raises(ValidationError, match="denoiser"):
        GraphArgs()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("LATENTWORKS_DENOISR__REPLICAS", "LATENTWORKS_DENOISER__REPLICAS"),
        ("LATENTWORKS_DENOISER__REPLICA", "LATENTWORKS_DENOISER__REPLICAS"),
        ("latentworks_bundl", "LATENTWORKS_BUNDLE"),
        ("LATENTWORKS_BUNDLE__NAME", "LATENTWORKS_BUNDLE"),
        ("LATENTWORKS_REGISTRY__TIMEOUT_S", "LATENTWORKS_REGISTRY_TIMEOUT_S"),
        ("LATENTWORKS_REGISTRY", "LATENTWORKS_REGISTRY_RETRIES"),
    ],
)
def test_a_variable_that_is_no_setting_is_named(name: str, nearest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "3")
    with pytest.raises(SettingsError, match=f"{name.upper()}: no such setting; the nearest is {nearest}$"):
        GraphArgs()


def test_variables_of_other_rooms_are_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LATENTWORKS_TRAINING", "LATENTWORKS_SERVER", "LATENTWORKS_SERVER_KEY", *VARIABLES):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("LATENTWORKS_REGISTRY_TIMEOUT_S", "3")
    monkeypatch.setenv("LATENTWORKS_REGISTRY_RETRIES", "2")
    assert (GraphArgs().registry.home, GraphArgs().registry.timeout_s) == (tmp_path, 3)


def test_an_argument_for_the_registry_leaves_its_variables_in_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LATENTWORKS_HOME", str(tmp_path))
    monkeypatch.setenv("LATENTWORKS_REGISTRY_TIMEOUT_S", "3")
    registry = GraphArgs.model_validate({"registry.timeout_s": "4"}).registry
    assert (registry.home, registry.timeout_s, registry.retries) == (tmp_path, 4, 1)


def test_the_largest_request_must_be_admissible() -> None:
    assert GraphArgs.model_validate({"ingress.max_images": 5, "rules.max_images": 5}).ingress.max_images == 5
    with pytest.raises(ValidationError, match=r"ingress.max_images=4: must be at least rules.max_images, which is 5"):
        GraphArgs.model_validate({"ingress.max_images": 4, "rules.max_images": 5})


def test_the_denoisers_settings_reach_it_by_argument_and_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTWORKS_DENOISER__RUN_PIXELS", "4096")
    monkeypatch.setenv("LATENTWORKS_GRAPH__SNAPSHOT_EVERY", "1")
    args = GraphArgs.model_validate({"denoiser.run_rows": "2", "denoiser.queued_pictures": 1})
    assert (args.denoiser.run_rows, args.denoiser.run_pixels, args.denoiser.queued_pictures) == (2, 4096, 1)
    assert args.graph.snapshot_every == 1
    own = GraphArgs.model_validate({"denoiser.run_pixels": None}).denoiser
    assert (own.run_rows, own.run_pixels, own.queued_pictures) == (8, None, 64)


@pytest.mark.parametrize("stage", ["text_encoder", "denoiser", "vae_decoder", "vae_encoder"])
def test_a_stage_may_rest_where_one_of_it_may_start(stage: str) -> None:
    given = {f"{stage}.replicas": 0, f"{stage}.max_replicas": 2, f"{stage}.downscale_to_zero_delay_s": 60}
    options = getattr(GraphArgs.model_validate(given), stage).serve_options()["autoscaling_config"]
    assert (options["min_replicas"], options["max_replicas"], options["downscale_to_zero_delay_s"]) == (0, 2, 60)
    with pytest.raises(ValidationError, match="replicas=0: needs max_replicas, without which no replica would ever"):
        GraphArgs.model_validate({f"{stage}.replicas": 0})


@pytest.mark.parametrize("part", ["graph", "ingress"])
def test_what_every_request_goes_through_never_rests(part: str) -> None:
    with pytest.raises(ValidationError, match=f"{part}.replicas"):
        GraphArgs.model_validate({f"{part}.replicas": 0, f"{part}.max_replicas": 2})


@pytest.mark.parametrize("part", ["graph", "denoiser"])
@pytest.mark.parametrize(("images", "replicas"), [(64, 1), (10, 3), (1000, 2)])
def test_a_replica_takes_more_calls_than_are_admitted(part: str, images: int, replicas: int) -> None:
    """Those beyond would queue in Serve's router, where no priority, deadline or fair share is known."""
    most = images * replicas + 3 * 10
    given = {
        "ingress.max_images": images,
        "ingress.replicas": replicas,
        "jobs.at_once": 3,
        "graph.max_ongoing_requests": most + 1,
        "denoiser.max_ongoing_requests": most + 1,
    }
    GraphArgs.model_validate(given).require_room()
    with pytest.raises(ValueError, match="must be over") as raised:
        GraphArgs.model_validate({**given, f"{part}.max_ongoing_requests": most}).require_room()
    assert (
        f"{part}.max_ongoing_requests={most}: must be over {most}, "
        "ingress.max_images times its most replicas and jobs.at_once times rules.max_images"
    ) in str(raised.value)


def test_the_defaults_leave_room_for_some_more_ingress_replicas() -> None:
    GraphArgs.model_validate({"ingress.replicas": 14}).require_room()
    with pytest.raises(ValueError, match="graph.max_ongoing_requests=1000: must be over 1000"):
        GraphArgs.model_validate({"ingress.replicas": 15}).require_room()


def test_keys_are_given_in_one_way_and_an_error_does_not_repeat_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTWORKS_KEYS__RECORDS", "a canary")
    monkeypatch.setenv("LATENTWORKS_KEYS__CONCURRENT_PICTURES", "4")
    monkeypatch.setenv("LATENTWORKS_INGRESS__OPEN", "true")
    args = GraphArgs()
    assert (args.keys.limits.concurrent_pictures, args.ingress.open) == (4, True)
    assert args.keys.records is not None
    assert args.keys.records.get_secret_value() == "a canary"
    for given, said in (
        ({"keys.file": "keys"}, "keys.file and keys.records: give only one of them"),
        ({"keys.burst": 4}, "keys.burst: does nothing without pictures_per_minute"),
    ):
        with pytest.raises(ValidationError, match=said) as raised:
            GraphArgs.model_validate(given)
        [error] = raised.value.errors()
        # what is shown of an error with a place is the value that is there
        assert error["loc"] == ()
        assert "a canary" not in error["msg"]


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"keys.concurrent_pictures": 0}, "keys.concurrent_pictures"),
        ({"keys.pictures_per_minute": "inf"}, "keys.pictures_per_minute"),
        ({"denoiser.run_rows": 1}, "denoiser.run_rows"),
        ({"denoiser.run_rows": 2.5}, "denoiser.run_rows"),
        ({"denoiser.run_pixels": 0}, "denoiser.run_pixels"),
        ({"denoiser.queued_pictures": 0}, "denoiser.queued_pictures"),
        ({"denoiser.queued_pictures": "nan"}, "denoiser.queued_pictures"),
        ({"denoiser.snapshot_every": 4}, "denoiser.snapshot_every"),
        ({"graph.snapshot_every": 0}, "graph.snapshot_every"),
        ({"text_encoder.run_rows": 8}, "text_encoder.run_rows"),
        ({"vae_decoder.health_check_period_s": 0}, "vae_decoder.health_check_period_s"),
        ({"vae_decoder.health_check_period_s": 3601}, "vae_decoder.health_check_period_s"),
        ({"vae_decoder.health_check_period_s": "inf"}, "vae_decoder.health_check_period_s"),
        ({"denoisr.replicas": 1}, "denoisr"),
        ({"denoiser.replica": 1}, "denoiser.replica"),
        ({"denoiser.replicas": -1}, "denoiser.replicas"),
        ({"graph.replicas": 0}, "graph.replicas"),
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


def test_pieces_join_a_part_given_as_a_whole() -> None:
    args = GraphArgs.model_validate({"denoiser.replicas": 2, "denoiser": {"threads": 3}})
    assert (args.denoiser.replicas, args.denoiser.threads) == (2, 3)


def test_pieces_of_what_has_none_are_refused() -> None:
    with pytest.raises(ValidationError):
        GraphArgs.model_validate({"denoiser": "x", "denoiser.replicas": 1})


def test_stores_are_folders_or_buckets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTWORKS_LATENTS__STORE", "s3://a-bucket/a/prefix")
    args = GraphArgs.model_validate({"links.store": "here"})
    assert (args.latents.store, args.links.store) == ("s3://a-bucket/a/prefix", str(tmp_path / "here"))
    assert GraphArgs.model_validate({"latents.store": "~/x"}).latents.store == str(Path.home() / "x")


@pytest.mark.parametrize(
    "store",
    ["", "s3://", "s3://B", "s3://bucket/../a", "s3://bucket/a b", "s3://bucket?x=y", "gs://bucket", "http://x"],
)
def test_a_store_of_another_kind_is_refused(store: str) -> None:
    with pytest.raises(ValidationError, match=r"links\.store"):
        GraphArgs.model_validate({"links.store": store})


@pytest.mark.parametrize(
    "public_url",
    ["pictures.example", "ftp://pictures.example", "https://", "https://a b", "https://me@a", "https://a?b"],
)
def test_a_public_address_is_one_that_links_can_begin_with(public_url: str) -> None:
    with pytest.raises(ValidationError, match="ingress.public_url"):
        GraphArgs.model_validate({"ingress.public_url": public_url})
    for good in ("https://pictures.example", "http://127.0.0.1:8000/pictures/"):
        assert GraphArgs.model_validate({"ingress.public_url": good}).ingress.public_url == good
