"""The files of the page, read once and served by their exact names: no request ever becomes a path on the disk."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib import resources

from jinja2 import DictLoader, Environment, StrictUndefined

from overread.core.errors import checked, require

#: What the page's own files may do: run our script and style, show pictures, ask this server. Nothing inline.
PAGE_POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
               "frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")  # fmt: skip
_KINDS = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
          "svg": "image/svg+xml", "png": "image/png", "json": "application/json", "txt": "text/plain; charset=utf-8"}  # fmt: skip
#: Where they lie: the page of images, that of slides, and the viewer that it uses, as its authors published it.
_FOLDERS = (("page",), ("slides", "page"), ("slides", "page", "openseadragon"))
#: How pages are made of what is around each of them: header, caution, keys, token.
_TEMPLATE, _FRAME = "j2", "frame.html.j2"
_SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class PageFile:
    """Bytes with their media type and the content security policy that they are served under."""

    data: bytes
    kind: str
    policy: str = PAGE_POLICY


@checked
def page_files() -> dict[str, PageFile]:
    """The files of the page by their names, as the wheel has them."""
    read = dict[str, bytes]()
    for folder in _FOLDERS:
        for file in resources.files("overread.serving").joinpath(*folder).iterdir():
            if file.is_file() and file.name.rpartition(".")[2] in (*_KINDS, _TEMPLATE):
                require(file.name not in read, "two files of the page have one name", given=file.name)
                read[file.name] = file.read_bytes()
    templates = {name: read.pop(name).decode() for name in list(read) if name.endswith(f".{_TEMPLATE}")}
    pages = Environment(
        loader=DictLoader(templates),
        autoescape=True,
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    for name in set(templates) - {_FRAME}:
        read[name.removesuffix(f".{_TEMPLATE}")] = pages.get_template(name).render().encode()
    return {name: PageFile(data, _KINDS[name.rpartition(".")[2]]) for name, data in read.items()}


@checked
def report_page(html: bytes) -> PageFile:
    """A run's report, which carries its scripts and styles within: only those scripts run, in an origin of their own.

    Each script is allowed by its hash (Content Security Policy Level 3, 8.4), and ``sandbox`` keeps the report from
    asking this server anything.
    """
    scripts = _SCRIPT.findall(html.decode("utf-8", "replace"))
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    policy = (f"default-src 'none'; script-src {hashes or chr(39) + 'none' + chr(39)}; style-src 'unsafe-inline'; img-src data:; font-src data:; "
              "frame-ancestors 'self'; base-uri 'none'; form-action 'none'; sandbox allow-scripts allow-popups allow-downloads")  # fmt: skip
    return PageFile(html, _KINDS["html"], policy)
