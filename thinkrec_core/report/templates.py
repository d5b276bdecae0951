"""The HTML templates of this package: how they are filled, and the digest that stands for one in a cache key."""

from __future__ import annotations

import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

PACKAGE = "thinkrec_core.report"


def template_environment() -> Environment:
    """Templates whose values are escaped as text and may not be missing."""
    return Environment(
        loader=PackageLoader(PACKAGE, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def template_digest(name: str) -> str:
    """sha256 of the template `name`, which no import names: whoever caches a page needs it beside the code."""
    return hashlib.sha256(resources.files(PACKAGE).joinpath(name).read_bytes()).hexdigest()
