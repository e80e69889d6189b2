"""Pictures of every step of the browser app: `python -m Testing.web.screenshots OUTDIR [--model M]`.

They are the README's and the tutorial's pictures; `--docs` in place of OUTDIR writes them to Resources/Screenshots,
as web-STEP.png. A real browser on a real session; the scan is the sample.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from FastSAM3DCore.cli.samples import list_samples, locate
from FastSAM3DWeb.config import WorkerConfig
from Testing.web.driver import AppPage, open_browser
from Testing.web.running import FAKE, running_front

# Places in the sample head, RAS mm.
VENTRICLE = (-17.0, -34.0, 20.0)
OTHER_SIDE = (19.0, -34.0, 20.0)
PUTAMEN = (26.0, 4.0, 2.0)
CENTER = (0.0, -18.0, 22.0)

DOCS = Path(__file__).parents[2] / "Resources" / "Screenshots"
# They are committed: colours are reduced until a picture is no larger than this.
MAX_BYTES = 400_000


class Album:
    """Writes web-STEP.png files, in the order the steps are taken."""

    def __init__(self, app: AppPage, folder: Path) -> None:
        self.app, self.folder = app, folder
        self.paths: list[Path] = []

    def path(self, name: str) -> Path:
        self.paths.append(self.folder / f"web-{name}.png")
        return self.paths[-1]

    def take(self, name: str) -> None:
        """A picture of the page at rest."""
        self.app.page.evaluate("() => document.activeElement?.blur()")
        self.app.page.mouse.move(640, 3)
        self.app.page.wait_for_timeout(1600)
        self.app.page.screenshot(path=str(self.path(name)))

    def shrink(self) -> None:
        """Bring every picture below `MAX_BYTES`."""
        for path in self.paths:
            with Image.open(path) as picture:
                picture.convert("RGB").save(path, optimize=True)
            if path.stat().st_size > MAX_BYTES:
                with Image.open(path) as picture:
                    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def head(folder: Path) -> str:
    """The sample that comes with a package, so that the places above are right on any machine."""
    _, path = locate([sample for sample in list_samples() if sample.package])
    link = folder / "Sample head.nii.gz"
    link.symlink_to(path)
    return str(link)


def tour(app: AppPage, album: Album) -> None:
    """Every step a newcomer and an annotator take."""
    album.take("opened")
    app.click("Red", VENTRICLE)
    album.take("first-click")
    app.tool("negative")
    app.click("Green", np.add(VENTRICLE, (0.0, 0.0, -14.0)))
    album.take("negative-click")
    app.action("undo")
    album.take("undo")
    app.page.click("#overlay")
    app.page.wait_for_function("() => window.trame.state.get('overlay')")
    app.page.click("#uncertain")
    album.take("uncertainty")
    app.page.click("#overlay")
    app.page.wait_for_function("() => !window.trame.state.get('overlay')")
    app.key("e")
    app.page.wait_for_function("() => window.trame.state.get('segments').length === 2")
    app.tool("box")
    corner = np.array((10.0, 20.0, 0.0))
    app.stroke("Red", [np.subtract(PUTAMEN, corner), np.add(PUTAMEN, corner)], during=album.path("box"))
    app.pull_box("Green", np.add(PUTAMEN, (0.0, 0.0, 10.0)), (0.0, 0.0, 4.0))
    album.take("box-handles")
    app.tool("scribble")
    app.stroke("Green", [np.add(PUTAMEN, (0, 0, z)) for z in (-5.0, 0.0, 5.0)], during=album.path("scribble"))
    app.key("e")
    app.page.wait_for_function("() => window.trame.state.get('segments').length === 3")
    app.tool("lasso")
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = [np.add(OTHER_SIDE, (0, 16 * np.cos(a), 9 * np.sin(a))) for a in angles]
    app.stroke("Yellow", ring, during=album.path("lasso"))
    album.take("three-segments")
    app.tool("paint")
    app.stroke("Red", [np.add(OTHER_SIDE, (0, y, 0)) for y in (-6.0, 0.0, 6.0)], during=album.path("paint"))
    app.page.click("#slice-mode")
    app.page.hover(".cell-Red")
    app.page.click(".cell-Red .f3d-corner")
    album.take("slice-by-slice")
    app.page.click(".cell-Red .f3d-corner")
    app.page.click("#slice-mode")
    app.page.click("#download")
    album.take("download")
    app.key("Escape")
    app.page.wait_for_timeout(400)
    app.page.click("#help")
    album.take("help")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="where to write the pictures")
    parser.add_argument("--docs", action="store_true", help="write them to Resources/Screenshots")
    parser.add_argument("--model", default="default", help="name or file of the weights")
    parser.add_argument("--fake", action="store_true", help="the fake engine, where there are no weights")
    parser.add_argument("--size", default="1280x800", help="of the window")
    arguments = parser.parse_args()
    if arguments.docs == (arguments.folder is not None):
        parser.error("give a folder, or --docs")
    folder = DOCS if arguments.docs else arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    width, height = (int(part) for part in arguments.size.split("x"))
    options = {"session": FAKE} if arguments.fake else {"model": arguments.model}
    with (
        tempfile.TemporaryDirectory() as state,
        running_front(Path(state), WorkerConfig(secret="", state_dir="", scan=head(Path(state)), **options)) as front,
        open_browser() as browser,
    ):
        app = AppPage.new(browser, front.url, width=width, height=height)
        app.center_ras = np.array(CENTER)
        app.answer_ms = 180_000
        app.open()
        album = Album(app, folder)
        tour(app, album)
        album.shrink()
        app.close()
    print(f"{len(album.paths)} pictures in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
