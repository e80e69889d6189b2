"""Uses the page as a person does: with mouse, keys and files, in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from FastSAM3DWeb.config import WorkerConfig
from Testing.web.phantom import Phantom
from Testing.web.running import FAKE, Running, running_front

__all__ = ["ARGUMENTS", "VIEWPORT", "AppPage", "chromium_path", "open_browser", "phantom_page"]

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY_MS = 90_000
ANSWER_MS = 30_000
DEFAULT_MS = 30_000
VIEWPORT = {"width": 1280, "height": 800}
# Screen axes of each view in RAS: to the right and downwards.
AXES = {"Red": ((-1, 0, 0), (0, -1, 0)), "Green": ((-1, 0, 0), (0, 0, -1)), "Yellow": ((0, -1, 0), (0, 0, -1))}


def chromium_path() -> str | None:
    """Debian's chromium, or another one on the path."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def open_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


class AppPage:
    """One tab with the app in it.

    Attributes:
        problems: console errors, page errors, failed requests and requests to other hosts, as text.
        center_ras: the middle of the scan; set it before clicking by RAS.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.problems: list[str] = []
        self.answer_ms = ANSWER_MS
        page.set_default_timeout(DEFAULT_MS)
        self.center_ras = np.zeros(3)
        page.on("console", lambda m: self.problems.append(f"console: {m.text}") if m.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(f"page: {error}"))
        page.on("request", self._check_request)
        page.on("response", lambda r: self.problems.append(f"HTTP {r.status} {r.url}") if r.status >= 400 else None)

    @classmethod
    def new(cls, browser: Browser | BrowserContext, url: str, **viewport: int) -> AppPage:
        """A tab; on a `Browser`, in a context (cookie jar) of its own."""
        if isinstance(browser, Browser):
            context = browser.new_context(viewport={**VIEWPORT, **viewport}, accept_downloads=True)
            return cls(context.new_page(), url)
        return cls(browser.new_page(), url)

    def _check_request(self, request: Any) -> None:
        if not request.url.startswith((self.url, self.url.replace("http", "ws", 1), "data:", "blob:")):
            self.problems.append(f"outside: {request.url}")

    # Looking

    def open(self) -> AppPage:
        """Load the page and wait until scan, pictures and model are there."""
        self.page.goto(self.url)
        return self.wait_ready()

    def wait_ready(self) -> AppPage:
        self.page.wait_for_selector(".f3d-scan", timeout=READY_MS)
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('.f3d-view[data-slice] img')]"
            ".filter(i => i.naturalWidth > 100).length >= 3",
            timeout=READY_MS,
        )
        self.page.wait_for_function(
            "() => window.trame.state.get('ready') && !window.trame.state.get('busy')", timeout=READY_MS
        )
        self.page.wait_for_timeout(700)
        return self

    def state(self, name: str) -> Any:
        return self.page.evaluate("name => window.trame.state.get(name)", name)

    def until_still(self, name: str) -> None:
        """Wait until a state has kept for a second: a slow machine gets a drag's moves after the hand has let go."""
        before, kept = self.state(name), 0
        for _ in range(100):
            self.page.wait_for_timeout(200)
            now = self.state(name)
            before, kept = now, kept + 1 if now == before else 0
            if kept == 5:
                return
        raise AssertionError(f"{name} keeps changing: {before}")

    def status(self) -> str:
        return self.page.inner_text(".f3d-status").replace("\n", " ")

    def wait_status(self, text: str) -> None:
        self.page.wait_for_function(
            "text => document.querySelector('.f3d-status').innerText.includes(text)", arg=text, timeout=self.answer_ms
        )

    def view_box(self, view: str) -> dict[str, float]:
        return self.page.locator(f".f3d-view[data-view={view}]").bounding_box()

    def picture(self, view: str) -> np.ndarray:
        """The view's pixels as shown, (H, W, 3) uint8."""
        self.page.mouse.move(5, 400)
        self.page.wait_for_timeout(450)
        data = self.page.locator(f".f3d-view[data-view={view}]").screenshot()
        return np.asarray(Image.open(BytesIO(data)).convert("RGB"))

    def tinted(self, view: str, color: str = "green") -> int:
        """Pixels of a view that a segment tints: the first segment is green, the second orange."""
        r, g, b = (self.picture(view)[..., c].astype(int) for c in range(3))
        if color == "green":
            return int(((g - r > 18) & (b - r > 10)).sum())
        return int(((r - b > 30) & (g - b > 8) & (abs(r - g) < 90)).sum())

    # Doing

    def place(self, view: str, ras: Sequence[float]) -> tuple[float, float]:
        """Page coordinates of a world position; the view must be as after opening a scan (fitted)."""
        box = self.view_box(view)
        mm = self.state("mm_across")[view] / box["width"]
        right, down = (np.array(axis) for axis in AXES[view])
        off = np.asarray(ras) - self.center_ras
        return (
            box["x"] + box["width"] / 2 + float(off @ right) / mm,
            box["y"] + box["height"] / 2 + float(off @ down) / mm,
        )

    def show_slice(self, view: str, ras: Sequence[float]) -> None:
        """Bring a view to the slice through a position, with its slider."""
        title = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}[view]
        offset = float(np.dot(self.state(f"slice_{view}")["normal"], ras))
        self.page.get_by_label(f"{title} slice").fill(str(offset))
        self.page.wait_for_timeout(300)

    def tool(self, name: str) -> None:
        self.page.click(f"#tool-{name}")
        self.page.mouse.move(5, 400)

    def key(self, key: str) -> None:
        self.page.keyboard.press(key)

    def answers(self) -> int:
        return int(self.state("answers"))

    def wait_answer(self, before: int) -> None:
        self.page.wait_for_function(
            "before => ['answers', 'settled'].every(n => window.trame.state.get(n) > before)"
            " && !window.trame.state.get('busy')",
            arg=before,
            timeout=self.answer_ms,
        )
        self.page.wait_for_timeout(100)

    def click(self, view: str, ras: Sequence[float]) -> None:
        """Bring the slice into view and click there with the current tool; waits for the answer."""
        self.show_slice(view, ras)
        before = self.answers()
        x, y = self.place(view, ras)
        self.page.mouse.move(x - 4, y - 3)
        self.page.wait_for_timeout(60)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.wait_for_timeout(40)
        self.page.mouse.up()
        self.wait_answer(before)

    def stroke(self, view: str, points_ras: Sequence[Sequence[float]], during: Path | None = None) -> None:
        """Drag along points with the current tool; waits for the answer."""
        self.show_slice(view, points_ras[0])
        before = self.answers()
        places = [self.place(view, point) for point in points_ras]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for x, y in places[1:]:
            self.page.mouse.move(x, y, steps=5)
        if during is not None:
            self.page.screenshot(path=str(during))
        self.page.mouse.up()
        self.wait_answer(before)

    def pull_box(self, view: str, at_ras: Sequence[float], by_ras: Sequence[float]) -> None:
        """Drag the side or corner of the box that is at a world position; waits for the answer."""
        before = self.answers()
        self.page.mouse.move(*self.place(view, at_ras))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(view, np.add(at_ras, by_ras)), steps=4)
        self.page.mouse.up()
        self.wait_answer(before)

    def rest(self, view: str, ras: Sequence[float]) -> None:
        """Rest the hand over a place until the engine has prepared it."""
        self.show_slice(view, ras)
        x, y = self.place(view, ras)
        self.page.mouse.move(x - 3, y - 2)
        self.page.mouse.move(x, y)
        self.page.wait_for_timeout(500)
        while not self.timings(view)["idle"]:
            self.page.wait_for_timeout(100)

    def timings(self, view: str) -> dict[str, Any]:
        """What the last answer and the engine's last call took."""
        return self.page.evaluate("view => window.trame.trigger('timings', [view])", view)

    def action(self, name: str) -> None:
        """Press undo, redo or reset and wait for the answer."""
        before = self.answers()
        self.page.click(f"#do-{name}")
        self.wait_answer(before)

    def download(self, what: str, folder: Path) -> Path:
        """Use the download menu; returns the file."""
        self.page.click("#download")
        with self.page.expect_download() as waiting:
            self.page.click(f"#download-{what}")
        target = folder / waiting.value.suggested_filename
        waiting.value.save_as(target)
        return target

    def labels(self, folder: Path) -> np.ndarray:
        """The downloaded label map, [k, j, i]."""
        return sitk.GetArrayFromImage(sitk.ReadImage(str(self.download("nii", folder))))

    def segment_button(self, row: int, title: str) -> None:
        """Press a button of the segment list by the beginning of its title."""
        self.page.locator(".f3d-segments li").nth(row).locator(f"button[title^={title}]").click()

    def volumes(self) -> list[str]:
        """What the segment list says of each segment's size."""
        return [segment["volume"] for segment in self.state("segments")]

    def wait_volumes(self, *expected: str) -> None:
        self.page.wait_for_function(
            "expected => JSON.stringify(window.trame.state.get('segments').map(s => s.volume)) === expected",
            arg=json.dumps(expected, separators=(",", ":")),
        )

    def upload(self, path: Path, what: str = "file") -> None:
        """Choose a file, or a folder, in the open menu."""
        self.page.click("#open")
        with self.page.expect_file_chooser() as waiting:
            self.page.click(f"#open-{what}")
        waiting.value.set_files(str(path))

    def drop(self, path: Path) -> None:
        """Drag a file from outside onto the page."""
        data = list(path.read_bytes())
        transfer = self.page.evaluate_handle(
            "([name, data]) => { const t = new DataTransfer();"
            " t.items.add(new File([new Uint8Array(data)], name)); return t; }",
            [path.name, data],
        )
        for event in ("dragenter", "dragover", "drop"):
            self.page.dispatch_event(".f3d-app", event, {"dataTransfer": transfer})

    def close(self) -> None:
        self.page.context.close()

    def prompts(self, folder: Path) -> list[dict[str, Any]]:
        """The downloaded prompt log."""
        return json.loads(self.download("prompts", folder).read_text())["prompts"]


@contextmanager
def phantom_page(browser: Browser, phantom: Phantom, state_dir: Path) -> Iterator[tuple[AppPage, Running]]:
    """A front of its own with the phantom open in a page, and one segment in it."""
    worker = WorkerConfig(secret="", state_dir="", scan=str(phantom.path), session=FAKE)
    with running_front(state_dir, worker) as running:
        app = AppPage.new(browser, running.url)
        app.center_ras = phantom.center_ras
        app.open()
        app.click("Red", phantom.balls[0].center_ras)
        yield app, running
