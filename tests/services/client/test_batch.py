"""Batches: what is drawn once is not drawn again, whenever the process ended."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.client.batch.journal import NAME
from services.client.batch.orders import OrdersError, read_orders
from services.errors import OverloadedError
from services.messages import Drawn, Order
from tests.services.client.conftest import Done, command, run, surroundings
from tests.services.ingress.access.test_tenants import with_keys
from tests.services.ingress.conftest import Server, draw_at_once, listening
from tests.services.server import free_port

REQUESTS = [
    {"prompt": "a red apple", "seed": 1},
    {"prompt": "a blue boat", "seed": 1, "output_format": "jpeg"},
    {"prompt": "a blue boat", "n": 2},
    {"prompt": "a green apple", "seed": 4, "subseed_strength": 0.5, "n": 2},
    {"image": "photo.png", "seed": 5},
    {"image": "photo.png", "prompt": "a boat", "mask": "photo.png", "seed": 6},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "photo.png")
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(f"{json.dumps(one)}\n" for one in REQUESTS))
    return path


def pictures(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".png", ".jpg")}


def batch(file: Path, out: Path, url: str, *more: str) -> Done:
    return run("batch", str(file), "--out", str(out), "--json", "--url", url, *more)


def test_every_request_is_drawn_and_none_again(server: Server, url: str, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = batch(file, out, url)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"drawn": 6, "before": 0, "failed": []}
    made = pictures(out)
    assert len(made) == 8
    assert {path.name for path in out.iterdir()} - made.keys() == {NAME, ".journal.lock"}
    for name in made:
        with Image.open(out / name) as picture:
            told = picture.info if name.endswith(".png") else {"latentworks": picture.getexif()[0x010E]}
            assert name.startswith(str(json.loads(told["latentworks"])["seed"]))
    again = batch(file, out, url)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == f"client: {out}: holds a batch already; --resume goes on with it\n"
    drawn = len(server.orders)
    assert json.loads(batch(file, out, url, "--resume").stdout) == {"drawn": 0, "before": 6, "failed": []}
    assert len(server.orders) == drawn
    assert pictures(out) == made


def test_more_requests_and_another_order_draw_what_is_new_alone(
    server: Server, url: str, file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    batch(file, out, url)
    server.orders.clear()
    lines = [*reversed(REQUESTS), {"prompt": "a red apple", "seed": 1}, {"prompt": "new"}]
    file.write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    assert json.loads(batch(file, out, url, "--resume").stdout)["drawn"] == 2
    # what stands there twice is wanted twice
    assert [(order.request.prompt, order.request.seed == 1) for order in server.orders] == [
        ("a red apple", True),
        ("new", False),
    ]


def test_a_picture_that_was_taken_away_comes_back_the_same(url: str, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch(file, out, url)
    made = pictures(out)
    # one of the two pictures of a request whose seed nobody chose
    [first, _] = sorted(name for name in made if read_orders(file)[2].key[:10] in name)
    (out / first).unlink()
    assert json.loads(batch(file, out, url, "--resume").stdout) == {"drawn": 1, "before": 5, "failed": []}
    assert pictures(out) == made


def test_killed_while_it_draws_it_goes_on(server: Server, url: str, file: Path, tmp_path: Path) -> None:
    out, stuck, go_on = tmp_path / "out", threading.Event(), threading.Event()
    drawn: Counter[str] = Counter()

    async def draw(order: Order) -> Drawn:
        import asyncio

        if order.request.prompt == "a green apple" and not go_on.is_set():
            stuck.set()
            await asyncio.to_thread(go_on.wait)
        drawn[f"{order.request.prompt} {order.request.seed}"] += 1
        return await draw_at_once(order)

    server.draw = draw
    work = subprocess.Popen(
        command("batch", str(file), "--out", str(out), "--concurrency", "1", "--url", url),
        env=surroundings(),
        stdout=subprocess.PIPE,
    )
    assert stuck.wait(60)
    os.kill(work.pid, signal.SIGKILL)
    work.communicate(timeout=60)
    before = pictures(out)
    assert len(before) == 4
    go_on.set()
    done = batch(file, out, url, "--resume")
    assert json.loads(done.stdout) == {"drawn": 3, "before": 3, "failed": []}
    after = pictures(out)
    assert len(after) == 8
    assert after.items() >= before.items()
    assert {name: count for name, count in drawn.items() if count > 1}.keys() <= {
        name for name in drawn if name.startswith("a green apple")
    }


_KILLED_AT = """
import os, runpy, signal, sys
at, folder = int(sys.argv.pop(1)), sys.argv.pop(1)
seen = 0
def hook(event, arguments):
    global seen
    if event in ("open", "os.link", "os.remove", "os.rename") and str(arguments[0]).startswith(folder):
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
runpy.run_module("services.client", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.slow
def test_killed_before_any_step_on_the_disk_it_goes_on(server: Server, url: str, tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text('{"prompt": "a", "n": 2}\n{"prompt": "b", "seed": 3}\n')
    at, killed = 0, True
    while killed:
        at += 1
        out = tmp_path / f"out-{at}"
        asked = ["batch", str(file), "--out", str(out), "--concurrency", "1", "--url", url]
        done = subprocess.run(
            [sys.executable, "-c", _KILLED_AT, str(at), str(out), *asked], env=surroundings(), capture_output=True
        )
        killed = done.returncode == -signal.SIGKILL
        assert killed or done.returncode == 0, done.stderr
        named = (out / NAME).read_text().count('"files"') if (out / NAME).exists() else 0
        server.orders.clear()
        told = json.loads(batch(file, out, url, "--resume").stdout)
        assert told == {"drawn": 2 - named, "before": named, "failed": []}, f"killed before step {at}"
        assert len(server.orders) == 2 - named
        made = pictures(out)
        assert len(made) == 3
        assert {path.name for path in out.iterdir()} - made.keys() == {NAME, ".journal.lock"}
        # the seed that was chosen before the end is the seed after it
        seeds = {json.loads(line)["begun"]["seed"] for line in (out / NAME).read_text().splitlines() if "begun" in line}
        assert len(seeds) == 2
    assert at > 10, "there are more steps than that"


def test_a_line_that_was_torn_is_cut_off(server: Server, url: str, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch(file, out, url)
    journal = out / NAME
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-9])
    server.orders.clear()
    done = batch(file, out, url, "--resume")
    # its file is there, and which it is was not written down
    assert len(server.orders) + len(json.loads(done.stdout)["failed"]) == 1
    assert all(line.startswith(b"{") and line.endswith(b"}") for line in journal.read_bytes().splitlines())
    journal.write_bytes(b"nonsense\n" + whole)
    assert "line 1 is none of a journal" in batch(file, out, url, "--resume").stderr


def test_another_file_of_the_name_is_left_alone(url: str, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    name = f"1-{read_orders(file)[0].key[:10]}.png"
    (out / name).write_bytes(b"mine")
    done = batch(file, out, url)
    assert done.returncode == 6
    [failed] = json.loads(done.stdout)["failed"]
    assert (failed["line"], failed["message"]) == (1, f"{name}: is there already, and not of this batch")
    assert (out / name).read_bytes() == b"mine"


def test_a_request_that_fails_keeps_no_other_from_being_drawn(url: str, file: Path, tmp_path: Path) -> None:
    with file.open("a") as lines:
        lines.write('{"prompt": "a", "steps": 0}\n')
    done = batch(file, tmp_path / "out", url)
    assert done.returncode == 6
    told = json.loads(done.stdout)
    assert (told["drawn"], [one["line"] for one in told["failed"]]) == (6, [7])
    assert done.stderr.startswith("client: line 7: steps=0: must be")
    assert json.loads(batch(file, tmp_path / "out", url, "--resume").stdout)["before"] == 6


def test_what_is_wrong_for_all_ends_the_batch(server: Server, file: Path, tmp_path: Path) -> None:
    with_keys(server)
    with listening(server) as url:
        done = batch(file, tmp_path / "out", url)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1


def test_only_so_many_requests_are_under_way(server: Server, url: str, tmp_path: Path) -> None:
    under_way, most = 0, 0

    async def draw(order: Order) -> Drawn:
        import asyncio

        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.05)
        under_way -= 1
        return await draw_at_once(order)

    server.draw = draw
    file = tmp_path / "many.jsonl"
    file.write_text("".join(f'{{"prompt": "a", "seed": {seed}}}\n' for seed in range(9)))
    assert batch(file, tmp_path / "out", url, "--concurrency", "3").returncode == 0
    assert most == 3


def test_a_server_that_comes_back_is_waited_for(server: Server, url: str, tmp_path: Path) -> None:
    failures = [OverloadedError("full", 0)]

    async def draw(order: Order) -> Drawn:
        if failures:
            raise failures.pop()
        return await draw_at_once(order)

    server.draw = draw
    file = tmp_path / "one.jsonl"
    file.write_text('{"prompt": "a"}\n')
    assert json.loads(batch(file, tmp_path / "out", url).stdout)["drawn"] == 1


def test_two_batches_do_not_share_a_folder(server: Server, url: str, file: Path, tmp_path: Path) -> None:
    out, stuck, go_on = tmp_path / "out", threading.Event(), threading.Event()

    async def draw(order: Order) -> Drawn:
        import asyncio

        stuck.set()
        await asyncio.to_thread(go_on.wait)
        return await draw_at_once(order)

    server.draw = draw
    work = subprocess.Popen(command("batch", str(file), "--out", str(out), "--url", url), env=surroundings())
    try:
        assert stuck.wait(60)
        second = batch(file, out, url, "--resume")
        assert second.stderr == f"client: {out}: another batch is at work there\n"
        work.send_signal(signal.SIGINT)
        assert work.wait(60) == 130
    finally:
        go_on.set()
        work.kill()
        work.wait()


@pytest.mark.usefixtures("file")
def test_csv_says_the_same_as_json(tmp_path: Path) -> None:
    table = tmp_path / "requests.csv"
    table.write_text(
        "prompt,seed,guidance,store_latents,components.vae_decoder,image\n"
        '"an apple, red\n3d",1,2.5,true,toy.vae_decoder/2,\n'
        ",2,,,,photo.png\n"
    )
    lines = tmp_path / "same.jsonl"
    first = {"prompt": "an apple, red\n3d", "seed": 1, "guidance": 2.5, "store_latents": True}
    first["components"] = {"vae_decoder": "toy.vae_decoder/2"}
    lines.write_text(f"{json.dumps(first)}\n\n" + '{"image": "photo.png", "seed": 2}\n')
    assert [one.key for one in read_orders(table)] == [one.key for one in read_orders(lines)]
    assert [one.line for one in read_orders(table)] == [3, 4]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "holds no request"),
        ("{}\n", "line 1: prompt: is required"),
        ('{"prompt": "a", "mask": "photo.png"}\n', "line 1: image: is required"),
        ('{"prompt": "a", "depth": "photo.png"}\n', "line 1: image: is required"),
        ('{"image": "photo.png", "mask": "photo.png"}\n', "line 1: prompt: is required"),
        (
            '{"prompt": "a"}\n{"prompt": "a", "step": 1}\n',
            "line 2: 'step': no such field; there are adaptive_guidance,",
        ),
        ('{"prompt": "a", "steps": "3"}\n', "line 1: steps: Input should be a valid integer"),
        ('{"image": "nowhere.png"}\n', "line 1: image: cannot be read: No such file"),
        ("[]\n", "line 1: Input should be a valid dictionary"),
        ("{\n", "line 1: is no JSON"),
    ],
)
def test_a_file_is_refused_before_anything_is_drawn(file: Path, lines: str, said: str) -> None:
    file.write_text(lines)
    with pytest.raises(OrdersError) as caught:
        read_orders(file)
    assert said in caught.value.message


@pytest.mark.parametrize(("table", "said"), [("prompt,seed\na\n", "line 2: has not as many"), ('prompt\n"a', "no CSV")])
def test_a_table_that_is_none_is_refused(tmp_path: Path, table: Any, said: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(table)
    with pytest.raises(OrdersError, match=said):
        read_orders(file)


def test_nobody_there_ends_the_batch_at_once(file: Path, tmp_path: Path) -> None:
    done = batch(file, tmp_path / "out", f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout) == (3, "")
