"""A message to a webhook when a run has failed or finished: {"event", "run", "preset", ...} as JSON.

The address comes from $THINKREC_WEBHOOK_URL and may hold a secret: it is neither logged nor stored. Without it nobody is told.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from typing import Any

logger = logging.getLogger(__name__)

VARIABLE = "THINKREC_WEBHOOK_URL"
SECONDS = 10.0


def notify(event: str, **facts: Any) -> bool:
    """Tell the webhook of `event`; False if there is none or it does not take the message, which stops no run."""
    url = os.environ.get(VARIABLE)
    if not url:
        return False
    try:
        body = json.dumps({"event": event, **facts}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SECONDS):
            return True
    except (OSError, ValueError) as error:
        logger.warning("the webhook of $%s was not told of %s (%s)", VARIABLE, event, type(error).__name__)
        return False
