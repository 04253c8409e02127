"""What `make docs` does to pages that are written to be read in a checkout.

README and the pages beside suites and scripts become pages of the site, and links lead to where pages are there. A
link to a file that has no page, such as a module, becomes its text; one to a file that is not there stays, and the
strict build refuses it.
"""

import re
from pathlib import Path
from posixpath import join, normpath, relpath
from typing import Any

HOME = Path(__file__).parents[1]
BESIDE = {"README.md": "index.md", "benchmarks/README.md": "suites.md", "slurm/README.md": "slurm.md"}
"""Pages that do not lie in docs/, and their names in the site."""
LINK = re.compile(r"\[([^][]*)\]\((?!https?://|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie elsewhere."""
    from mkdocs.structure.files import File

    for source, name in BESIDE.items():
        files.append(File.generated(config, name, content=(HOME / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let links lead to where pages are in the site."""
    sources = {name: source for source, name in BESIDE.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return LINK.sub(lambda link: _moved(link, source), markdown)


def _moved(link: re.Match[str], source: str) -> str:
    text, target, anchor = link[1], link[2], link[3] or ""
    path = normpath(join(source, "..", target))
    if path in BESIDE or path.startswith("docs/"):
        return f"[{text}]({relpath(BESIDE.get(path, path.removeprefix('docs/')))}{anchor})"
    return text if (HOME / path).exists() else link[0]
