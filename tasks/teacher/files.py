"""Names of the tables that the teacher's answers end in."""

from __future__ import annotations

REFLECTION_FILE = "reflections.parquet"
"""What may be trained on."""
REFERENCE_FILE = "reference_traces.parquet"
"""What no training accepts."""
