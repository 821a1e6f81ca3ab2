"""Draw the report page of reference solutions as pictures: solutions/NAME-report.png.

    python scripts/report_pictures.py [NAME ...]

NAME is the stem of a problem file; without one, all that have a plan are drawn. Needs the `browser` extra and
Chromium on the path. The picture shows the head of the page, its flow diagram, and its map of intensity and footprint.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from codesign.problem import load_problem
from codesign.report.page import PlanFile, render_report, write_report
from codesign.solution import load_solution

ROOT = Path(__file__).parents[1]
HIDDEN = "main section:not([id$='-routing']):not([id$='-intensity']):not([id$='-buy']), nav, .scroll ~ p"
"""What the picture leaves out, as a selector."""


def main() -> None:
    """Render, photograph, and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(path.stem for path in (ROOT / "solutions").glob("*.json"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="one of " + ", ".join(known))
    names = parser.parse_args().names or known
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in names:
            solution = load_solution(ROOT / "solutions" / f"{name}.json")
            if solution.totals is None:
                continue
            page = Path(folder) / f"{name}.html"
            problem = load_problem(ROOT / "problems" / f"{name}.yaml")
            write_report(render_report([PlanFile(name, solution, problem)]), page)
            tab = chromium.new_page(viewport={"width": 1200, "height": 3000}, color_scheme="light")
            tab.goto(page.as_uri())
            tab.add_style_tag(content=f"{HIDDEN} {{ display: none; }} #theme {{ display: none; }}")
            tab.add_style_tag(content="[id$='-routing'] .scroll, [id$='-intensity'] .scroll { display: none; }")
            picture = ROOT / "solutions" / f"{name}-report.png"
            tab.screenshot(path=picture, full_page=False, clip=_extent(tab))
            print(f"wrote {picture.relative_to(ROOT)}")
        chromium.close()


def _extent(tab: object) -> dict[str, float]:
    height = tab.evaluate("document.querySelector('main').getBoundingClientRect().bottom")  # type: ignore[attr-defined]
    return {"x": 0, "y": 0, "width": 1200, "height": min(3000, height + 20)}


if __name__ == "__main__":
    main()
