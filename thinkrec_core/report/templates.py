"""The HTML templates of this package: how they are filled, and the digest that stands for one in a cache key."""

from __future__ import annotations

import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

PACKAGE = "thinkrec_core.report"
STYLE = "style.html.j2"
"""What pages include for their looks."""


def template_environment() -> Environment:
    """Templates whose values are escaped as text and may not be missing."""
    return Environment(
        loader=PackageLoader(PACKAGE, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def template_digest(*names: str) -> str:
    """sha256 of the templates `names`, which no import names: whoever caches a page needs it beside the code."""
    texts = [resources.files(PACKAGE).joinpath(name).read_bytes() for name in names]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()
