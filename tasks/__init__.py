"""One Prefect task per stage: read artifacts, call thinkrec_core, write an artifact, return its reference."""
