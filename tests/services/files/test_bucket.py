"""A store in a bucket whose service refuses, is away, or is not what the variables say."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from benchmarks.object_store import BUCKET, KEY, KEY_ID, listening
from services.errors import FileNotKeptError, StartError, UnavailableError
from services.files.pictures import PictureStore
from services.files.store import FileStore, StoreSettings
from tests.services.places import BucketPlace, with_variables

NOBODY = "http://127.0.0.1:1"


def opened(store: str) -> FileStore:
    return FileStore(StoreSettings(store=store, most_bytes=2**20, keep_s=60), "latents", ".npz", lambda _: None)


class Refusing(BaseHTTPRequestHandler):
    """Answers as S3 does where a signature is wrong, with what that tells of the key."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = (
            f"<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId>"
            f"<StringToSign>{KEY}</StringToSign></Error>"
        ).encode()
        self.send_response(403)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST = do_GET  # noqa: N815 - so its base has them

    def log_message(self, *_: Any) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_bucket_that_is_not_there_ends_the_start(bucket_place: BucketPlace) -> None:
    with pytest.raises(StartError, match="^latents.store=s3://another-bucket/a: S3 says NoSuchBucket$"):
        opened("s3://another-bucket/a")
    assert bucket_place.files == []


def test_a_refusal_ends_the_start_and_tells_nothing_of_the_key(monkeypatch: pytest.MonkeyPatch, refusing: str) -> None:
    with_variables(monkeypatch, refusing)
    with pytest.raises(StartError) as raised:
        opened(f"s3://{BUCKET}/a")
    assert str(raised.value) == f"latents.store=s3://{BUCKET}/a: S3 says SignatureDoesNotMatch"
    assert raised.value.__suppress_context__


def test_nobody_there_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with_variables(monkeypatch, NOBODY)
    with pytest.raises(StartError, match=f"^latents.store=s3://{BUCKET}: S3 cannot be reached as the AWS"):
        opened(f"s3://{BUCKET}")


@pytest.mark.parametrize("address", ["no address", "ftp://there", "https://me:secret@there", "https://"])
def test_an_endpoint_that_is_none_ends_the_start(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with_variables(monkeypatch, address)
    with pytest.raises(StartError, match="latents.store=.*: AWS_ENDPOINT_URL must be http:// or https://") as raised:
        opened(f"s3://{BUCKET}")
    assert "secret" not in str(raised.value)


def test_without_its_library_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    for name in [name for name in sys.modules if name.startswith(("obstore.", "services.files.bucket"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(StartError, match=r"needs obstore, of the extra s3: pip install '\.\[s3\]'"):
        opened(f"s3://{BUCKET}")


def test_a_service_that_is_away_keeps_nothing_and_goes_on_once_it_is_back(
    bucket_place: BucketPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as url:
        with_variables(monkeypatch, url)
        store = opened(bucket_place.store)
        id_ = store.keep(b"a content")
    with pytest.raises(FileNotKeptError, match="latents: the store does not take a file: S3 cannot be reached"):
        store.keep(b"another")
    with pytest.raises(UnavailableError, match="what is kept cannot be read just now"):
        store.read(id_)
    assert (store.count, store.size) == (1, 4096)
    with listening(int(url.rpartition(":")[2])):
        assert store.read(id_) == b"a content"
        again = store.keep(b"another")
        assert bucket_place.files == sorted([f"{id_}.npz", f"{again}.npz"])


def test_what_is_not_let_go_of_still_counts(bucket_place: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000.0
    settings = StoreSettings(store=bucket_place.store, most_bytes=2**20, keep_s=60)
    dropped: list[str] = []
    store = FileStore(settings, "latents", ".npz", dropped.append, lambda: now)
    for number in range(3):
        store.keep(bytes([number]))
    now += 61

    def fails(_names: object) -> None:
        raise OSError(5, "S3 says SlowDown")

    with monkeypatch.context() as patch:
        patch.setattr(store.blobs, "remove", fails)
        with pytest.raises(OSError, match="SlowDown"):
            store.sweep()
    assert (store.count, dropped, len(bucket_place.files)) == (3, [], 3)
    store.sweep()
    assert (store.count, store.size, dropped, bucket_place.files) == (0, 0, ["expired"] * 3, [])


def test_two_stores_in_one_bucket_do_not_see_each_other(bucket_place: BucketPlace) -> None:
    other = BucketPlace(bucket_place.client, f"{bucket_place.prefix}-2")
    links = PictureStore(StoreSettings(store=other.store, most_bytes=2**20, keep_s=60), lambda _: None)
    links.keep(b"a picture", "png")
    assert opened(bucket_place.store).count == 0
    assert (len(other.files), bucket_place.files) == (2, [])
