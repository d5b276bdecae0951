"""The configuration of a run: one frozen model per part; `root.ThinkRecConfig` joins them."""
