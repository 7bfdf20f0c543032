"""Fetching, from files and from a real HTTP server that misbehaves."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from pydantic import ValidationError

from components.core import digest
from components.core.clock import ManualClock
from components.core.errors import Rejected, Unavailable
from components.core.spec import Fetch
from components.source.download import download
from components.source.fetch import fetch

DATA = bytes(range(256)) * 4000


def run(tmp_path: Path, uri: str, **fields: object):
    spec = Fetch(uri=uri, **fields)
    return fetch(spec, base_dir=tmp_path, out_dir=tmp_path / "out" / "model", clock=ManualClock())


def model(tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def packed(tmp_path: Path) -> Path:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(model(tmp_path), arcname=".")
    return archive


def test_a_directory_is_copied_and_digested(tmp_path):
    folder = model(tmp_path)
    fetched = run(tmp_path, "trained", sha256=digest.of_directory(folder).digest)

    assert digest.of_directory(tmp_path / "out" / "model").digest == fetched.sha256


def test_a_file_uri_is_a_path(tmp_path):
    assert run(tmp_path, f"file://{model(tmp_path)}").origin.startswith("file://")
    assert (tmp_path / "out" / "model" / "saved_model.pb").is_file()


def test_an_archive_is_unpacked_and_its_own_digest_is_the_one_that_counts(tmp_path):
    archive = packed(tmp_path)
    fetched = run(tmp_path, "./model.tar.gz", sha256=digest.of_file(archive).digest.removeprefix("sha256:"))

    assert fetched.sha256 == digest.of_file(archive).digest
    assert (tmp_path / "out" / "model" / "variables" / "variables.index").read_bytes() == b"index"


def test_a_model_file_keeps_its_name(tmp_path):
    (tmp_path / "m.keras").write_bytes(b"PK\x03\x04 whatever")
    run(tmp_path, "m.keras")

    assert [path.name for path in (tmp_path / "out" / "model").iterdir()] == ["m.keras"]


@pytest.mark.parametrize("uri", ["trained", "model.tar.gz", "trained/saved_model.pb"])
def test_a_wrong_digest_leaves_nothing_behind(tmp_path, uri):
    packed(tmp_path)
    with pytest.raises(Rejected) as caught:
        run(tmp_path, uri, sha256="0" * 64)

    assert caught.value.reason == "DIGEST_MISMATCH"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("uri", ["trained", "trained/saved_model.pb"])
def test_more_bytes_than_allowed_are_refused(tmp_path, uri):
    model(tmp_path)
    with pytest.raises(Rejected) as caught:
        run(tmp_path, uri, max_bytes=3)

    assert caught.value.reason == "TOO_LARGE"


def test_a_link_in_a_directory_is_refused(tmp_path):
    (model(tmp_path) / "assets").symlink_to("/etc")
    with pytest.raises(Rejected) as caught:
        run(tmp_path, "trained")

    assert caught.value.reason == "SYMLINK"


def test_a_path_that_is_not_there_says_what_it_is_relative_to(tmp_path):
    with pytest.raises(Rejected, match="relative to the spec's folder") as caught:
        run(tmp_path, "nowhere")

    assert caught.value.reason == "NOT_FOUND"


def stored(bucket) -> None:
    """gs://models/team/a holds a model, an archive's name beside it, a placeholder, and a name that begins alike."""
    for key in ("m/saved_model.pb", "m/variables/variables.index", "m.keras", "m2/other", "both", "both/x"):
        bucket.create(key, key.encode())


def test_a_folder_of_a_bucket_is_a_directory(bucket, tmp_path):
    stored(bucket)
    fetched = run(tmp_path, "gs://models/team/a/m/")

    out = tmp_path / "out" / "model"
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()) == [
        "saved_model.pb",
        "variables/variables.index",
    ]
    assert (out / "saved_model.pb").read_bytes() == b"m/saved_model.pb"
    assert (fetched.origin, fetched.sha256) == ("gs://models/team/a/m", digest.of_directory(out).digest)


def test_an_object_of_a_bucket_is_a_file(bucket, tmp_path):
    stored(bucket)
    fetched = run(tmp_path, "gs://models/team/a/m.keras")

    assert (tmp_path / "out" / "model" / "m.keras").read_bytes() == b"m.keras"
    assert fetched.sha256 == digest.of_file(tmp_path / "out" / "model" / "m.keras").digest


@pytest.mark.parametrize(
    ("uri", "fields", "reason"),
    [
        ("gs://models/team/a/nowhere", {}, "NOT_FOUND"),
        ("gs://models/team/a/m", {"max_bytes": 20}, "TOO_LARGE"),
        ("gs://models/team/a/m.keras", {"max_bytes": 3}, "TOO_LARGE"),
        ("gs://models/team/a/m", {"sha256": "0" * 64}, "DIGEST_MISMATCH"),
        ("gs://models/team/a/m.keras", {"sha256": "0" * 64}, "DIGEST_MISMATCH"),
        ("gs://models/team/a", {}, "BAD_KEY"),
    ],
)
def test_what_a_bucket_does_not_rightly_hold_is_refused_and_leaves_nothing(bucket, tmp_path, uri, fields, reason):
    stored(bucket)
    with pytest.raises(Rejected) as caught:
        run(tmp_path, uri, **fields)

    assert caught.value.reason == reason
    assert list((tmp_path / "out").iterdir()) == []


def test_plain_http_is_no_uri_for_a_model():
    with pytest.raises(ValidationError):
        Fetch(uri="http://example.invalid/model.keras")


@dataclass
class Site:
    """What the server does: answers a request by the first of the plans, and remembers the ranges it was asked for."""

    plans: list[str] = field(default_factory=list)
    etag: str = '"1"'
    ranges: list[str | None] = field(default_factory=list)


@contextmanager
def serving(site: Site) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.ranges.append(self.headers["Range"])
            plan = site.plans.pop(0) if site.plans else "whole"
            if plan.isdigit():
                self.send_response(int(plan))
                self.end_headers()
                return
            if plan.startswith("to "):
                self.send_response(302)
                self.send_header("Location", plan.removeprefix("to "))
                self.end_headers()
                return
            start = 0
            if self.headers["Range"] and self.headers["If-Range"] == site.etag:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            body = DATA[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
            self.send_header("ETag", site.etag)
            if plan != "chunkless":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if plan == "changed":
                site.etag = '"2"'
            self.wfile.write(body[: len(body) // 2] if plan in ("break", "changed") else body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/model.tar.gz"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def get(site: Site, target: Path, *, max_bytes: int = 10**7, timeout_s: float = 60) -> None:
    with serving(site) as url:
        download(url, target, max_bytes=max_bytes, timeout_s=timeout_s, clock=ManualClock(), client=httpx.Client())


def test_a_broken_download_goes_on_where_it_broke(tmp_path):
    site = Site(["break", "break"])
    get(site, tmp_path / "m")

    assert (tmp_path / "m").read_bytes() == DATA
    half, quarter = len(DATA) // 2, len(DATA) // 4
    assert site.ranges == [None, f"bytes={half}-", f"bytes={half + quarter}-"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path):
    site = Site(["changed"])
    get(site, tmp_path / "m")

    assert (tmp_path / "m").read_bytes() == DATA
    assert len(site.ranges) == 2


def test_a_weak_tag_is_no_ground_to_resume(tmp_path):
    site = Site(["break"], etag='W/"1"')
    get(site, tmp_path / "m")

    assert (tmp_path / "m").read_bytes() == DATA
    assert site.ranges == [None, None]


def test_a_busy_server_is_asked_again(tmp_path):
    site = Site(["503", "429", "500"])
    get(site, tmp_path / "m")

    assert len(site.ranges) == 4


def test_a_server_that_never_delivers_is_unavailable_in_the_end(tmp_path):
    with pytest.raises(Unavailable, match="HTTP 503") as caught:
        get(Site(["503"] * 100), tmp_path / "m")

    assert caught.value.reason == "TIMEOUT"


@pytest.mark.parametrize(("status", "reason"), [("404", "NOT_FOUND"), ("403", "FORBIDDEN"), ("401", "FORBIDDEN")])
def test_a_refusal_is_not_tried_again(tmp_path, status, reason):
    site = Site([status])
    with pytest.raises(Rejected) as caught:
        get(site, tmp_path / "m")

    assert caught.value.reason == reason
    assert len(site.ranges) == 1


@pytest.mark.parametrize("plan", ["whole", "chunkless"])
def test_a_download_stops_at_its_limit_whether_or_not_its_length_is_told(tmp_path, plan):
    with pytest.raises(Rejected) as caught:
        get(Site([plan]), tmp_path / "m", max_bytes=1000)

    assert caught.value.reason == "TOO_LARGE"


def test_a_redirect_is_followed_within_its_scheme_only(tmp_path):
    get(Site(["to /other"]), tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == DATA
    with pytest.raises(Rejected) as caught:
        get(Site(["to ftp://127.0.0.1/x"]), tmp_path / "m")
    assert caught.value.reason == "REDIRECT"


def test_redirects_in_a_circle_end(tmp_path):
    with pytest.raises(Rejected, match="redirects"):
        get(Site(["to /again"] * 20), tmp_path / "m")


def test_an_archive_with_a_hostile_member_leaves_nothing(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        for name in ("saved_model.pb", "../evil"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(Rejected) as caught:
        run(tmp_path, "evil.tar")

    assert caught.value.reason == "ARCHIVE_TRAVERSAL"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["evil.tar", "out"]
