"""`python -m services.client` in a process of its own, against the real application."""

import asyncio
import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.contract import ImageChannels
from services.errors import OverloadedError
from services.messages import Drawn, LiveModel, Order, Progress
from tests.services.client.conftest import ROOT, command, run, surroundings
from tests.services.conftest import looking_at
from tests.services.ingress.access.test_tenants import ANN, OPERATOR, with_keys
from tests.services.ingress.conftest import Server, draw_at_once, listening
from tests.services.ingress.controls import EDGES, INK, LINES, STYLE, with_controls
from tests.services.ingress.latents.test_face import ID
from tests.services.server import free_port

HEAVY = ("ray", "fastapi", "starlette", "mlflow", "numpy", "onnxruntime", "PIL", "torch")


def pixel(path: Path) -> Any:
    with Image.open(path) as picture:
        return picture.convert("RGB").getpixel((0, 0))


def test_it_starts_without_a_heavy_library() -> None:
    code = (
        "import sys; from services.client.commands import main; import services.client.awaited;"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=surroundings(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_picture_goes_to_a_file_as_the_server_wrote_it(server: Server, url: str, tmp_path: Path) -> None:
    out = tmp_path / "apple.jpg"
    done = run("draw", "a red apple", "--out", str(out), "--seed", "7", "--steps", "3", "--guidance", "0", "--url", url)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}: seed 7\n", "")
    [order] = server.orders
    assert (order.request.prompt, order.request.steps, order.request.guidance) == ("a red apple", 3, 0.0)
    with Image.open(out) as picture:
        assert picture.format == "JPEG"
        assert json.loads(picture.getexif()[0x010E])["seed"] == 7
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["apple.jpg"]


def test_control_pictures_are_named_by_what_they_are_for(
    server: Server, url: str, live: LiveModel, tmp_path: Path
) -> None:
    with_controls(server, live)
    edges, out = tmp_path / "edges, old=1.png", tmp_path / "1.png"
    Image.new("RGB", (64, 64), "red").save(edges)
    draw = ("draw", "a", "--out", str(out), "--seed", "1", "--url", url)
    done = run(*draw, "--control", f"{EDGES.name}={edges},scale=0.5,end=0.75", "--control", f"{LINES}={edges}")
    assert (done.returncode, done.stderr) == (0, "")
    [order] = server.orders
    assert [(one.model, one.scale, one.end) for one in order.request.controls] == [
        (str(EDGES), 0.5, 0.75),
        (str(LINES), 1.0, 1.0),
    ]
    verify = ("verify", str(out), "--url", url, "--control", str(edges))
    done = run(*verify, "--control", str(edges))
    assert (done.returncode, done.stderr) == (0, "")
    style = ("--lora", f"{STYLE.name}=-0.5", "--lora", str(INK), "--image-prompt", str(edges))
    done = run(*draw, "--force", *style)
    assert (done.returncode, done.stderr) == (0, "")
    last = server.orders[-1]
    assert [(one.model, one.scale) for one in last.request.loras] == [(str(STYLE), -0.5), (str(INK), 1.0)]
    assert len(last.image_prompts) == 1
    done = run("verify", str(out), "--url", url, "--image-prompt", str(edges))
    assert (done.returncode, done.stderr) == (0, "")
    refused = run(*draw, "--force", "--lora", f"{STYLE.name}=much")
    assert "--lora: scale='much': must be a number" in refused.stderr
    for wrong, said in (
        ("edges.png", "--control: must be MODEL=FILE"),
        (f"{EDGES.name}={tmp_path / 'none.png'}", "cannot be read: No such file or directory"),
        (f"{EDGES.name}={edges},scale=much", "--control: scale='much': must be a number"),
    ):
        assert said in run(*draw, "--force", "--control", wrong).stderr


def test_a_folder_has_files_by_seed_and_json_tells_them(url: str, tmp_path: Path) -> None:
    settings = ["--n", "2", "--seed", "250", "--component", "denoiser=toy.denoiser/9"]
    out = tmp_path / "made" / "here"
    refused = run("draw", "a", "--out", str(out), *settings, "--json", "--url", url)
    assert (refused.returncode, refused.stdout) == (4, "")
    assert refused.stderr.startswith("client: components.denoiser: toy.denoiser/9 is not in the registry (request ")
    done = run("draw", "one two three four five six", "--out", str(out), *settings[:4], "--json", "--url", url)
    told = json.loads(done.stdout)
    assert done.stderr == "client: the prompt is longer than the model reads; its end has no effect\n"
    assert [(Path(one["file"]), one["seed"]) for one in told["pictures"]] == [
        (out / "250.png", 250),
        (out / "251.png", 251),
    ]
    assert [pixel(out / f"{seed}.png") for seed in (250, 251)] == [(seed,) * 3 for seed in (250, 251)]
    assert told["usage"] == {"input_tokens": 6, "output_tokens": 128, "total_tokens": 134}
    assert told["components"]["denoiser"]["name"] == "toy.denoiser"
    assert "data" not in told["pictures"][0]


def test_a_second_pass_is_asked_for_field_by_field(server: Server, url: str, tmp_path: Path) -> None:
    given = ["--hires", "scale=1.5", "--hires", "upscaler=lanczos", "--hires", "steps=9"]
    done = run("draw", "a", "--out", str(tmp_path / "1.png"), "--seed", "1", "--size", "64x64", *given, "--url", url)
    assert done.returncode == 0, done.stderr
    [order] = server.orders
    hires = order.request.hires
    assert hires is not None
    assert (order.request.width, hires.first_width, hires.upscaler, hires.steps) == (96, 64, "lanczos", 9)
    for wrong, said in (
        ("scal=2", "--hires: scal: "),
        ("scale=big", "--hires: scale: "),
        ("scale", "--hires: must be"),
    ):
        refused = run("draw", "a", "--out", str(tmp_path / "2.png"), "--hires", wrong, "--url", url)
        assert refused.returncode != 0
        assert refused.stderr.startswith(f"client: {said}"), refused.stderr


def test_no_file_is_written_over_unless_told_so(server: Server, url: str, tmp_path: Path) -> None:
    out = tmp_path / "1.png"
    out.write_bytes(b"mine")
    for where in (out, tmp_path):
        done = run("draw", "a", "--out", str(where), "--seed", "1", "--url", url)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"client: {out}: is there already; --force writes over it\n"
    assert (out.read_bytes(), server.orders) == (b"mine", [])
    assert run("draw", "a", "--out", str(out), "--seed", "1", "--force", "--url", url).returncode == 0
    assert pixel(out) == (1, 1, 1)


def test_a_file_that_comes_while_it_is_drawn_stays(server: Server, url: str, tmp_path: Path) -> None:
    out = tmp_path / "a.png"

    async def watch(order: Order, every: int) -> AsyncIterator[Progress | Drawn]:
        out.write_bytes(b"mine")
        async for one in watch_at_once(order, every):
            yield one

    from tests.services.ingress.conftest import watch_at_once

    server.watch = watch
    assert run("draw", "a", "--out", str(out), "--url", url).returncode == 1
    assert out.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--out", "a.gif"], 2, "--out: must end in one of .png, .jpg, .jpeg, .webp, or be a folder"),
        (["--out", "a.png", "--n", "2"], 2, "--out: must be a folder where --n is 2"),
        (["--out", "a.png", "--output-format", "webp"], 2, "--out: ends in .png, and --output-format is webp"),
        (["--out", "a.png", "--preview"], 2, "--preview: needs a terminal"),
        (["--out", "a", "--component", "vae_decoder"], 2, "--component: must be KIND=VERSION"),
        (["--out", "a", "--box", "0,0,1=a fox"], 4, "boxes: must be left out, as none are taken here"),
        (["--out", "a", "--box", "a fox"], 2, "--box: must be X0,Y0,X1,Y1=PHRASE"),
        (["--out", "a", "--url", "localhost"], 2, "url: must begin with http:// or https://"),
        (["--out", "a", "--key-file", "nowhere"], 2, "--key-file: cannot be read: No such file"),
        pytest.param(
            ["--out", "a", "--url", "http://127.0.0.1:{port}"],
            3,
            "nobody answers at http://127.0.0.1:",
            marks=pytest.mark.slow,
        ),
        (["--out", "a", "--steps", "0"], 4, "steps=0: must be"),
        (["--out", "a", "--guidance", "nan"], 4, "the body holds NaN"),
        (["--out", "a", "--sampler", "\x1b[31m"], 4, "sampler="),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    url: str, tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    given = [one.format(port=free_port()) for one in arguments]
    done = run("draw", "a", "--json", *given, cwd=tmp_path, LATENTWORKS_SERVER=url)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"client: {said}")
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


def test_an_unknown_option_is_a_wrong_command_line(url: str) -> None:
    assert run("draw", "a", "--out", "a", "--nonsense", "--url", url).returncode == 2


def test_a_server_without_room_has_a_status_of_its_own(server: Server, url: str, tmp_path: Path) -> None:
    async def watch(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        raise OverloadedError("full", 3600)
        yield

    server.watch = watch
    assert run("draw", "a", "--out", str(tmp_path / "a.png"), "--url", url).returncode == 5


def test_interrupted_it_stops_the_drawing_and_leaves_nothing(server: Server, url: str, tmp_path: Path) -> None:
    begun, left = threading.Event(), threading.Event()

    async def watch(_order: Order, _every: int) -> AsyncIterator[Progress | Drawn]:
        try:
            begun.set()
            yield Progress(0, 1, 25, None)
            await asyncio.Event().wait()
        finally:
            left.set()

    server.watch = watch
    drawing = subprocess.Popen(
        command("draw", "a", "--out", str(tmp_path / "a.png"), "--url", url),
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert begun.wait(60)
    assert not left.is_set()
    drawing.send_signal(signal.SIGINT)
    out, err = drawing.communicate(timeout=60)
    assert left.wait(30)
    assert (drawing.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not (tmp_path / "a.png").exists()


def test_a_picture_that_is_not_what_its_story_makes(server: Server, url: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert run("draw", "a boat", "--seed", "9", "--out", str(path), "--url", url).returncode == 0
    told = run("verify", str(path), "--url", url)
    assert told.returncode == 0
    assert "yes" in told.stdout

    async def lighter(order: Order) -> Drawn:
        return await draw_at_once(replace(order, request=replace(order.request, seed=12)))

    server.draw = lighter
    told = run("verify", str(path), "--url", url)
    assert told.returncode == 1
    assert "3 of 255" in told.stdout
    assert "toy.denoiser/1" in told.stdout


def test_pictures_are_edited_varied_inspected_and_compared(server: Server, url: str, tmp_path: Path) -> None:
    photo, hole = tmp_path / "photo.png", tmp_path / "hole.png"
    Image.new("RGB", (64, 64), "red").save(photo)
    Image.new("L", (64, 64), 255).save(hole)
    edited = tmp_path / "edited.webp"
    asked = ["edit", str(photo), "a boat", "--mask", str(hole), "--strength", "0.5", "--seed", "9", "--store-latents"]
    assert run(*asked, "--out", str(edited), "--url", url).returncode == 0
    varied = run("vary", str(photo), "--out", str(tmp_path), "--seed", "30", "--json", "--url", url)
    assert json.loads(varied.stdout)["pictures"][0]["file"] == str(tmp_path / "30.png")
    edit, variation = server.orders
    assert (edit.request.prompt, edit.request.strength, edit.store_latents) == ("a boat", 0.5, True)
    assert edit.source is not None
    assert edit.source.mask is not None
    assert (variation.request.strength, variation.store_latents) == (0.6, False)
    told = run("inspect", str(edited), "--json", "--url", url)
    assert json.loads(told.stdout)["request"]["prompt"] == "a boat"
    assert "a boat" in run("inspect", str(edited), "--url", url).stdout
    again = run("verify", str(edited), "--source", str(photo), "--mask", str(hole), "--json", "--url", url)
    verified = json.loads(again.stdout)
    assert (verified["equal"], verified["differing_pixels"], again.returncode) == (True, 0, 0)
    assert run("verify", str(edited), "--url", url).returncode == 4
    sheet = tmp_path / "sheet.png"
    compared = run(
        "compare", ID, "toy.vae_decoder/1", "toy.vae_decoder/2", "--out", str(sheet), "--user", "me", "--url", url
    )
    assert "41.27 dB" in compared.stdout
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
    assert run("inspect", str(tmp_path / "nothing.png"), "--url", url).returncode == 2


def test_a_picture_is_edited_and_verified_by_its_depth(
    server: Server, url: str, live: LiveModel, tmp_path: Path
) -> None:
    looking = looking_at(live, ImageChannels(source="depth", channels=1))
    server.pinning.record = looking
    for kind, pin in live.pins.items():
        server.controller.versions[str(pin)] = (pin, looking.live.contracts[kind])
    photo, depth, edited = (tmp_path / name for name in ("photo.png", "depth.png", "edited.png"))
    Image.new("RGB", (64, 64), "red").save(photo)
    Image.linear_gradient("L").save(depth)
    asked = ["edit", str(photo), "a boat", "--depth", str(depth), "--out", str(edited), "--url", url]
    assert run(*asked).returncode == 0
    [order] = server.orders
    assert order.source is not None
    assert order.source.depth is not None
    told = run("verify", str(edited), "--source", str(photo), "--depth", str(depth), "--json", "--url", url)
    assert json.loads(told.stdout)["equal"] is True


def test_what_a_files_text_holds_does_not_steer_the_terminal(url: str, tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("parameters", "an owl\x1b[31m\nSteps: 3, Sampler: Euler, Clip skip\x1b[2J: 2")
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=texts)
    (tmp_path / "owl.png").write_bytes(out.getvalue())
    done = run("inspect", str(tmp_path / "owl.png"), "--url", url)
    assert "an owl?[31m" in done.stdout
    assert "\x1b" not in done.stdout


def test_models_and_status(server: Server, url: str) -> None:
    assert [one["id"] for one in json.loads(run("models", "--json", "--url", url).stdout)] == ["toy"]
    assert run("models", "--url", url).stdout.startswith("toy")
    told = json.loads(run("status", "--json", "--url", url).stdout)
    assert (told["ready"]["status"], told["rollout"]["bundle"]) == ("ready", "toy")
    assert "toy.denoiser/1" in run("status", "--url", url).stdout
    server.standings = {}
    assert run("status", "--url", url).returncode == 5


def test_the_key_comes_from_a_file_or_the_environment(server: Server, tmp_path: Path) -> None:
    with_keys(server)
    file = tmp_path / "key"
    file.write_text(f"{ANN}\n")
    with listening(server) as url:
        assert run("models", "--url", url).returncode == 4
        assert run("models", "--url", url, "--key-file", str(file)).returncode == 0
        done = run("status", "--url", url, LATENTWORKS_SERVER_KEY=ANN)
        assert done.returncode == 0
        assert done.stderr == "client: what is live is told to a key with the role operate\n"
        wrong = run("models", "--url", url, LATENTWORKS_SERVER_KEY=f"{OPERATOR}x")
    assert wrong.returncode == 4
    assert OPERATOR not in wrong.stdout + wrong.stderr
