"""The picture of the playground in the README: a real service, a real browser, scikit-image's astronaut (NASA).

    python -m benchmarks.screenshot [--out docs/playground.jpg] [--bundle DIR] [--width 1280] [--height 0] [--dark]

Her photograph is degraded as `honestface demo` does it; the reference is the photograph itself, mirrored and in another
light. Needs Chromium (apt-get install chromium).
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from skimage.data import astronaut

from benchmarks.servers import honestface
from service.demo_command import JPEG_QUALITY, as_reference, degraded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/playground.jpg"))
    parser.add_argument("--bundle", type=Path, help="bundle folder; none: the embedded one")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=0, help="0: the whole page")
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("needs Chromium: apt-get install chromium")

    with honestface(arguments.bundle) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": arguments.width, "height": arguments.height or 760},
            color_scheme="dark" if arguments.dark else "light",
        )
        page.goto(f"http://127.0.0.1:{service.port}")
        restore(page)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=arguments.out, type="jpeg", quality=85, full_page=not arguments.height)
        browser.close()
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB")


def restore(page: Page) -> None:
    """Does what a visitor does: photograph and reference in, restored picture out, landmarks on."""
    original = Image.fromarray(astronaut())
    photo, reference = io.BytesIO(), io.BytesIO()
    degraded(original).save(photo, "JPEG", quality=JPEG_QUALITY)
    as_reference(original).save(reference, "PNG")
    page.wait_for_selector(".badge.ready")
    page.set_input_files("#photo", {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo.getvalue()})
    page.set_input_files("#references", {"name": "1.png", "mimeType": "image/png", "buffer": reference.getvalue()})
    page.click("#restore")
    page.wait_for_selector("#shown:not([hidden])", timeout=120_000)
    page.get_by_text("Face", exact=True).click()


if __name__ == "__main__":
    main()
