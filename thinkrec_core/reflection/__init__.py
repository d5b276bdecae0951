"""Reflection dialogue: prompts, verdicts, traces, filters; pure text in, text out."""
