import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.service.running import ANNA_PHOTO, EMPTY_PHOTO, Running, file_of, pixels_of
from tests.toy_faces import ANNA, BEN, photo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def test_the_page_and_its_parts_come_with_a_policy_that_keeps_to_this_host(toy: Running) -> None:
    for path in ("/", "/playground/playground.js", "/playground/playground.css", "/playground/dom.js"):
        response = toy.client.get(path)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "<script>" not in toy.client.get("/").text


@pytest.mark.parametrize("name", ["index.html", "..%2fsettings.py", "%2e%2e%2fapp.py", "nothing.js"])
def test_nothing_else_is_served(toy: Running, name: str) -> None:
    assert toy.client.get(f"/playground/{name}").status_code == 404


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(toy: Running, browser: "Browser") -> "Iterator[Page]":
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith((toy.url, "blob:", "data:")) else complaints.append(r.url))
    page.goto(toy.url)
    page.wait_for_selector(".badge.ready")
    yield page
    page.close()
    # The browser logs a refused request as an error of its own.
    assert not [text for text in complaints if "status of 422" not in text]


def save(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def test_a_photograph_is_restored_and_compared(page: "Page", tmp_path: Path) -> None:
    two = file_of(photo(((120.0, 120.0), 200.0, ANNA), ((350.0, 130.0), 160.0, BEN)))
    page.set_input_files("#photo", save(tmp_path, "photo.png", two))
    references = [save(tmp_path, "one.png", ANNA_PHOTO), save(tmp_path, "two.png", ANNA_PHOTO)]
    page.set_input_files("#references", references)
    assert page.locator("#references-list li").count() == 2
    page.click("[aria-label='Remove two.png']")
    page.click("summary")
    page.select_option("#faces", "all")
    page.click("#restore")
    page.wait_for_selector("#shown:not([hidden])")
    assert "2 faces restored" in page.inner_text("#status")
    assert "Backed by one reference" in page.inner_text(".verdict >> nth=0")
    assert "Restored without references" in page.inner_text(".verdict >> nth=1")
    assert page.locator(".face").count() == 2
    assert "look like one person" in page.inner_text(".face >> nth=0")
    assert "No reference was used" in page.inner_text(".face >> nth=1")
    assert page.locator("#overlay circle").count() == 2 * 68
    assert not page.locator("#overlay").is_visible()
    page.check("#landmarks")
    assert page.locator("#overlay").is_visible()
    with page.expect_download() as download:
        page.click("#download-report")
    report = json.loads(Path(download.value.path()).read_bytes())
    assert len(report["faces"]) == 2 and "base64" not in report["picture"]
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "restored.png"
    assert pixels_of(Path(download.value.path()).read_bytes()).shape == (360, 480, 3)


def test_the_slider_follows_keys_and_pointer(page: "Page", tmp_path: Path) -> None:
    page.set_input_files("#photo", save(tmp_path, "photo.png", ANNA_PHOTO))
    page.focus("#restore")
    page.keyboard.press("Enter")
    page.wait_for_selector("#shown:not([hidden])")

    def edge() -> str:
        return str(page.evaluate("document.querySelector('#stage').style.getPropertyValue('--edge')"))

    assert edge() == "50%"
    page.focus("#slider")
    page.keyboard.press("End")
    assert edge() == "100%"
    frame = page.locator("#stage").bounding_box()
    assert frame is not None
    page.mouse.click(frame["x"] + frame["width"] / 4, frame["y"] + 5)
    assert float(edge().removesuffix("%")) == pytest.approx(25, abs=1)


def test_a_face_fills_the_view_and_the_slider_still_compares(page: "Page", tmp_path: Path) -> None:
    page.set_input_files("#photo", save(tmp_path, "photo.png", ANNA_PHOTO))
    page.click("#restore")
    page.wait_for_selector("#shown:not([hidden])")

    def red_eye() -> tuple[float, float]:
        """Where the red eye lies on the stage, as parts of its width and height, and nothing else of the page."""
        shot = pixels_of(page.locator("#stage").screenshot()).astype(int)
        rows, columns = ((shot[:, :, 0] > 200) & (shot[:, :, 1:].max(2) < 90)).nonzero()
        return float(columns.mean() / shot.shape[1]), float(rows.mean() / shot.shape[0])

    page.focus("#slider")
    page.keyboard.press("End")
    assert red_eye() == pytest.approx((215 / 480, 174 / 360), abs=0.02)
    page.get_by_text("Face", exact=True).click()
    assert red_eye() == pytest.approx((0.356, 0.310), abs=0.02), "1.6 times the box of the toy detector"
    width = page.evaluate("document.querySelector('#stage').clientWidth")
    page.check("#actual")
    assert page.evaluate("document.querySelector('#stage').clientWidth") < width


def test_an_upscaled_picture_lies_over_the_photograph(page: "Page", tmp_path: Path) -> None:
    page.set_input_files("#photo", save(tmp_path, "photo.png", ANNA_PHOTO))
    page.click("summary")
    page.select_option("#upscale", "2")
    page.click("#restore")
    page.wait_for_selector("#shown:not([hidden])")
    assert page.inner_text("#timing").startswith("960 \N{MULTIPLICATION SIGN} 720 pixels")

    def shot(percent: int, selector: str) -> NDArray[np.float64]:
        page.fill("#slider", str(percent))
        return pixels_of(page.locator(selector).screenshot()).astype(float)

    before, after = shot(100, "#stage"), shot(0, "#stage")
    assert 0.1 < np.abs(after - before).mean() < 2, "restored, and in its place"
    eyes = [pixels_of(page.locator(f"[aria-label='Eyes, {when}']").screenshot()) for when in ("before", "after")]
    assert np.abs(eyes[1].astype(float) - eyes[0]).mean() < 5
    actual = page.evaluate("document.querySelector('#shown').style.getPropertyValue('--actual')")
    assert actual == "960px"


def test_a_refusal_is_told_in_words_and_the_page_goes_on(page: "Page", tmp_path: Path) -> None:
    page.set_input_files("#photo", save(tmp_path, "empty.png", EMPTY_PHOTO))
    page.click("#restore")
    page.wait_for_selector("#error:not(:empty)")
    assert page.inner_text("#error") == "No face was found."
    page.set_input_files("#photo", save(tmp_path, "photo.png", ANNA_PHOTO))
    page.click("#restore")
    page.wait_for_selector("#shown:not([hidden])")
    assert page.inner_text("#error") == ""


def test_what_is_left_out_is_told(page: "Page", tmp_path: Path) -> None:
    pictures = [save(tmp_path, f"{number}.png", ANNA_PHOTO) for number in range(18)]
    notes = save(tmp_path, "notes.txt", b"hello")
    page.set_input_files("#references", [*pictures, notes])
    assert page.locator("#references-list li").count() == 16
    told = "Left out 1 file without a picture. Left out 2 pictures: at most 16 references can be taken."
    assert page.inner_text("#error") == told
    page.set_input_files("#photo", pictures[0])
    assert page.inner_text("#error") == ""
    page.set_input_files("#photo", notes)
    assert page.inner_text("#error") == "Left out 1 file without a picture."
    assert page.locator("#photo-list li").count() == 1


def test_everything_can_be_reached_and_is_named(page: "Page", tmp_path: Path) -> None:
    page.set_input_files("#photo", save(tmp_path, "photo.png", ANNA_PHOTO))
    page.click("#restore")
    page.wait_for_selector("#shown:not([hidden])")
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select, a[href], canvas, img, svg.chart")]
        .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.alt || e.textContent.trim()))
        .map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    reached = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"photo", "references", "restore", "slider", "landmarks", "actual", "download", "download-report"} <= reached


def test_a_phone_needs_no_sideways_scrolling(page: "Page", tmp_path: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.set_input_files("#photo", save(tmp_path, "photo.png", ANNA_PHOTO))
    page.set_input_files("#references", save(tmp_path, "one.png", ANNA_PHOTO))
    page.click("#restore")
    page.wait_for_selector("#shown:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
