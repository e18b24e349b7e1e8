"""Hooks of MkDocs: every page of the repository is in the site, at the path that it has in the repository.

So a page's links lead to the same places on a forge and in the site. Where one leads to code or to a folder, which a
browser would download or not find, the site has a page that shows it: of a module what its docstrings say, too.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/*.md", "docs/*.ipynb", "benchmarks/*.md", "configs/*.md", "packaging/*/*.md")
WINGS = ("common", "det", "seg")
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")
MARKED = re.compile(r"(?m)(^```\w+) needs-\w+$")  # what tests/test_docs.py marks is no part of a language's name
AS_IT_IS = (".md", ".png")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    kept = [file for file in files if file.src_dir != config.docs_dir]
    pages = {path.relative_to(ROOT) for pattern in PAGES for path in ROOT.glob(pattern)}
    return Files([*kept, *(_file(path, config) for path in sorted(pages | _linked(pages)))])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    folder = Path(page.file.src_uri).parent

    def led(link: re.Match) -> str:
        shown = _target(folder, link[1]) is not None and not link[1].endswith(AS_IT_IS)
        return f"{link[1].rstrip('/')}.md" if shown else link[1]

    return MARKED.sub(r"\1", LINK.sub(led, markdown))


def _linked(pages: set[Path]) -> set[Path]:
    """What the pages lead to, and what the folders among that hold."""
    found: set[Path] = set()
    waiting = [(page.parent, _markdown(page)) for page in pages]
    while waiting:
        folder, text = waiting.pop()
        for link in LINK.findall(text):
            path = _target(folder, link)
            if path is not None and path not in found | pages:
                found.add(path)
                waiting += [(path.parent, _markdown(path))] if (ROOT / path).is_dir() else []
    return found


def _target(folder: Path, link: str) -> Path | None:
    path = (ROOT / folder / link).resolve()
    return path.relative_to(ROOT) if path.exists() else None


def _file(path: Path, config: MkDocsConfig) -> File:
    if path.suffix in AS_IT_IS:
        return File(path.as_posix(), str(ROOT), config.site_dir, config.use_directory_urls)
    inclusion = InclusionLevel.UNDEFINED if path.suffix == ".ipynb" else InclusionLevel.NOT_IN_NAV
    return File.generated(config, f"{path.as_posix()}.md", content=_markdown(path), inclusion=inclusion)


def _markdown(path: Path) -> str:
    """The page that shows a file or a folder."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(inner.name for inner in file.iterdir() if inner.suffix and not inner.name.startswith("_"))
        return "\n".join([f"# {path}\n", *(f"- [{name}]({path.name}/{name})" for name in names)])
    text = "" if path.suffix == ".png" else file.read_text()
    if path.suffix == ".ipynb":
        return "\n\n".join(_cells(text))
    if path.suffix != ".py":
        return text if path.suffix in AS_IT_IS else f"# {path}\n\n```{path.suffix[1:]}\n{text}\n```\n"
    name = ".".join((*(("densedist",) if path.parts[0] in WINGS else ()), *path.with_suffix("").parts))
    documented = f"::: {name}\n\n" if name.startswith("densedist") else ""
    return f"# {name}\n\n{documented}## Source\n\n`{path}`\n\n```py\n{text}\n```\n"


def _cells(notebook: str) -> Iterator[str]:
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        yield text if cell["cell_type"] == "markdown" else f"```py\n{text}\n```"
