"""A hook of mkdocs: the first page of the site is `start.md`, which keeps its name on the hosting site."""

from typing import Any


def on_files(files: Any, **_: Any) -> Any:
    """Write `start.md` to the address of the site itself."""
    page = files.get_file_from_path("start.md")
    page.dest_uri, page.url = "index.html", "./"
    return files
