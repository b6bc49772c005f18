"""What `mkdocs build` adds to docs/: the import graph, drawn from the code, and measurements.

mkdocs calls `on_files`; mkdocs.yml names this file.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

import grimp
import networkx as nx
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PACKAGES = ("rtmo", "pipelines")
BOX_HEIGHT, ROW_HEIGHT, GAP, MARGIN = 26, 78, 14, 12
LETTER_WIDTH = 7.6
DECISIONS = "# Decisions\n\nWhy something is as it is, where the code alone does not say it.\n"
BENCHMARKS = """\
# Benchmarks

One page per measurement: machine, versions, command, table. The command on a page measures again.
`make figures` makes tables from the raw logs in `benchmarks/logs/`, and a test fails when a page
disagrees with its log; a page of figures without one says so.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add generated pictures and pages to what mkdocs found in docs/."""
    for package in PACKAGES:
        name = f"images/imports-{package}.svg"
        files.append(File.generated(config, name, content=import_graph(package)))
    decisions = sorted(DOCS.glob("decisions/*.md"))
    files.append(File.generated(config, "decisions/index.md", content=index(DECISIONS, decisions)))
    measurements = sorted(ROOT.glob("benchmarks/*.md"), reverse=True)
    for page in measurements:
        files.append(File.generated(config, f"benchmarks/{page.name}", content=page.read_text()))
    listed = index(BENCHMARKS, measurements)
    files.append(File.generated(config, "benchmarks/index.md", content=listed))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Write out links to files of the repository that are no pages."""
    folder = (DOCS / page.file.src_uri).parent

    def written_out(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(DOCS) or not target.exists():
            return link[0]
        return f"{link[1]} (`{target.relative_to(ROOT)}`)"

    return re.sub(r"\[([^\]]+)\]\(([^)#:]+)\)", written_out, markdown)


def index(opening: str, pages: list[Path]) -> str:
    """A page that lists others by their titles."""
    titles = [page.read_text().splitlines()[0].lstrip("# ") for page in pages]
    links = [f"- [{title}]({page.name})" for page, title in zip(pages, titles, strict=True)]
    return "\n".join([opening, *links, ""])


def import_graph(package: str) -> str:
    """SVG of the direct imports among the parts of a package, a row per layer of its contract."""
    rows = layers(package)
    edges = imports_among(package, {part for row in rows for part in row})
    places, width = place(rows)
    height = MARGIN + ROW_HEIGHT * (len(rows) - 1) + BOX_HEIGHT + MARGIN
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        f'width="{width:.0f}" height="{height}" '
        f'font-family="monospace" font-size="12" role="img" aria-label="Imports in {package}">',
        f'<rect width="{width:.0f}" height="{height}" fill="#fff"/>',
        *(line(places[one], places[other]) for one, other in sorted(edges)),
        *(box(part, x, y, part_width) for part, (x, y, part_width) in sorted(places.items())),
        "</svg>\n",
    ]
    return "\n".join(drawn)


def layers(package: str) -> list[list[str]]:
    """Rows of the contract in pyproject.toml, highest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = (
        one
        for one in settings["tool"]["importlinter"]["contracts"]
        if one["type"] == "layers" and one["containers"] == [package]
    )
    return [re.split(r"\s*[|:]\s*", row) for row in contract["layers"]]


def imports_among(package: str, parts: set[str]) -> set[tuple[str, str]]:
    """(importer, imported) among parts, without those that follow from others."""
    found = grimp.build_graph(package, cache_dir=None)
    graph = nx.DiGraph()
    for module in found.modules:
        for imported in found.find_modules_directly_imported_by(module):
            one, other = (name.split(".")[1:2] for name in (module, imported))
            if one and other and one != other and {*one, *other} <= parts:
                graph.add_edge(one[0], other[0])
    return set(nx.transitive_reduction(graph).edges)


def place(rows: list[list[str]]) -> tuple[dict[str, tuple[float, float, float]], float]:
    """Left, top and width of every part, rows centred; and the width of the picture."""
    widths = {part: LETTER_WIDTH * len(part) + 16 for row in rows for part in row}
    full = max(sum(widths[part] + GAP for part in row) - GAP for row in rows)
    places = {}
    for number, row in enumerate(rows):
        x = MARGIN + (full - sum(widths[part] + GAP for part in row) + GAP) / 2
        for part in row:
            places[part] = (x, MARGIN + number * ROW_HEIGHT, widths[part])
            x += widths[part] + GAP
    return places, full + 2 * MARGIN


def line(one: tuple[float, float, float], other: tuple[float, float, float]) -> str:
    """From the lower edge of the importer to the upper edge of what it imports."""
    x1, y1 = one[0] + one[2] / 2, one[1] + BOX_HEIGHT
    x2, y2 = other[0] + other[2] / 2, other[1]
    bend = (y2 - y1) / 2
    curve = f"{x1:.1f} {y1 + bend:.0f} {x2:.1f} {y2 - bend:.0f} {x2:.1f} {y2}"
    return f'<path d="M{x1:.1f} {y1} C{curve}" fill="none" stroke="#7a8aa0"/>'


def box(part: str, x: float, y: float, width: float) -> str:
    """A part with its name."""
    shape = f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BOX_HEIGHT}" rx="4" '
    name = f'<text x="{x + width / 2:.1f}" y="{y + 17}" text-anchor="middle">{escape(part)}</text>'
    return f'{shape}fill="#eef2f7" stroke="#33415c"/>{name}'
