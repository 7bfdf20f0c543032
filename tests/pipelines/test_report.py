"""The report page: what it says, that hostile names stay text, and that a real browser shows it without a complaint."""

import json
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from components.core.records import Outcome, Release
from pipelines import report

SAMPLE = Path(__file__).parents[1] / "components/core/records/release.json"
SPEC = b'{"apiVersion": "slipway.dev/v1", "model": "digits"}'


@pytest.fixture
def release() -> Release:
    return Release.model_validate_json(SAMPLE.read_bytes())


def test_the_page_shows_chain_sizes_latencies_signatures_gates_and_the_verdict(release):
    page = report.render(release, SPEC)
    for said in (
        "digits version", "rolled back", "source", "promote", "Size on disk", "Latency, batch 1", "fold_batch_norms",
        "serving_default", "float32[?, 8, 8]", "Same answers", "accuracy", "churn", "Canary: rollback", release.id,
    ):  # fmt: skip
        assert said in page, said


def test_every_reason_of_a_rollback_stands_on_top(release):
    page = report.render(release, SPEC)
    head = page[: page.index('<ol class="chain"')]
    for reason in release.records[-1].reasons:  # type: ignore[union-attr]
        assert reason in head


def test_the_page_holds_no_script_and_names_no_address(release):
    page = report.render(release, SPEC).replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in page
    assert "src=" not in page.replace("default-src", "")
    assert "@import" not in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_a_hostile_text_stays_text(release):
    evil = "<script>alert(1)</script>"
    data = json.loads(SAMPLE.read_text())
    data["records"][0]["origin"] = evil
    data["records"][-1]["reasons"] = [evil]
    data["model"] = evil
    page = report.render(Release.model_validate(data), json.dumps({"a": evil}).encode())
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_release_that_goes_on_has_a_page_too(release):
    for count in range(len(release.records) + 1):
        part = release.model_copy(update={"records": release.records[:count], "outcome": Outcome.RUNNING})
        assert "running" in report.render(part, None)


def test_equal_records_make_equal_pages(release):
    assert report.render(release, SPEC) == report.render(release, SPEC)


def colours(png: bytes) -> int:
    """Return how many distinct pixel rows an 8-bit PNG has: a blank page has one."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, _height, depth, kind = struct.unpack(">IIBB", png[16:26])
    channels = {2: 3, 6: 4}[kind]
    assert depth == 8
    place, data = 8, b""
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += 12 + length
    raw, row = zlib.decompress(data), 1 + width * channels
    return len({raw[start : start + row] for start in range(0, len(raw), row)})


@pytest.fixture(scope="module")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium, or put one on the PATH")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 420])
def test_a_real_browser_shows_the_page_without_a_complaint(browser, release, tmp_path, width):
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(report.render(release, SPEC))
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", f"--window-size={width},2400",
            "--hide-scrollbars", f"--screenshot={picture}", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    assert colours(picture.read_bytes()) > 100
