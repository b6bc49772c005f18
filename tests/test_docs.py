"""The site builds strictly, asks no other host, and its graph shows the code's layers."""

import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from tools.docs_hooks import import_graph, imports_among, layers


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(repository / "mkdocs.yml"), strict=True, site_dir=str(folder)))
    return folder


def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert site / "first-photo" / "index.html" in pages
    fetched = r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//|<link[^>]+href="(?:https?:)?//'
    assert [
        (page.name, found) for page in pages for found in re.findall(fetched, page.read_text())
    ] == []
    styles = "".join(file.read_text() for file in site.rglob("*.css"))
    assert re.findall(r"url\((?:https?:)?//[^)]+", styles) == []


def test_indexes_list_every_decision_and_measurement(site: Path, repository: Path) -> None:
    for folder, pages in (("decisions", "docs/decisions"), ("benchmarks", "benchmarks")):
        listed = (site / folder / "index.html").read_text()
        names = [page.stem for page in (repository / pages).glob("*.md")]
        assert names
        assert [name for name in names if f'href="{name}/"' not in listed] == []


@pytest.mark.parametrize("package", ["rtmo", "pipelines"])
def test_the_graph_shows_every_part_and_only_imports_downwards(package: str) -> None:
    rows = layers(package)
    row_of = {part: number for number, row in enumerate(rows) for part in row}
    picture = import_graph(package)
    assert re.findall(r">([\w]+)</text>", picture) == sorted(row_of)
    edges = imports_among(package, set(row_of))
    assert picture.count("<path") == len(edges) > 0
    assert [(one, other) for one, other in edges if row_of[one] >= row_of[other]] == []
