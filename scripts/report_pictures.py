"""Draw the report page of reference solutions as pictures: solutions/NAME-report.png.

    python scripts/report_pictures.py [NAME ...]

NAME is a problem file without its ending (agent-fleet, architecture/decode-chip); without one, all that have a plan are
drawn. Needs the `browser` extra and Chromium on the path. The picture shows the head of the page, what to buy, the flow
diagram and the map of intensity and footprint; of a designed chip, its head, its bill and the search.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from codesign.report.page import read_architecture, read_plan, render_architecture, render_report, write_report

ROOT = Path(__file__).parents[1]
SHOWN = ("routing", "intensity", "buy", "chip", "search")
HIDDEN = "main section" + "".join(f":not([id$='-{name}'])" for name in SHOWN) + ", nav, .scroll ~ p, figure ~ .scroll"
"""What the picture leaves out, as a selector."""


def main() -> None:
    """Render, photograph, and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*(ROOT / "solutions").glob("*.json"), *(ROOT / "solutions" / "architecture").glob("*.json")]
    known = sorted(path.relative_to(ROOT / "solutions").with_suffix("").as_posix() for path in every)
    parser.add_argument("names", nargs="*", metavar="NAME", help="one of " + ", ".join(known))
    names = parser.parse_args().names or known
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in names:
            source = ROOT / "solutions" / f"{name}.json"
            page = Path(folder) / f"{source.stem}.html"
            designed = read_architecture(source)
            if designed is not None:
                write_report(render_architecture(designed, name), page)
            else:
                plan = read_plan(source, ROOT / "problems" / f"{name}.yaml")
                if plan.solution.totals is None:
                    continue
                write_report(render_report([plan]), page)
            tab = chromium.new_page(viewport={"width": 1200, "height": 3000}, color_scheme="light")
            tab.goto(page.as_uri())
            tab.add_style_tag(content=f"{HIDDEN} {{ display: none; }} #theme {{ display: none; }}")
            picture = ROOT / "solutions" / f"{name}-report.png"
            tab.screenshot(path=picture, full_page=False, clip=_extent(tab))
            print(f"wrote {picture.relative_to(ROOT)}")
        chromium.close()


def _extent(tab: object) -> dict[str, float]:
    height = tab.evaluate("document.querySelector('main').getBoundingClientRect().bottom")  # type: ignore[attr-defined]
    return {"x": 0, "y": 0, "width": 1200, "height": min(3000, height + 20)}


if __name__ == "__main__":
    main()
