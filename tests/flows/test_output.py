from __future__ import annotations

import json
import subprocess
import sys


def test_under_json_nothing_but_the_result_reaches_stdout() -> None:
    code = """
import os, subprocess, sys
from flows.output import Output
output = Output(True)
print("a library prints")
os.write(1, b"a C library prints\\n")
subprocess.run([sys.executable, "-c", "print('a child prints')"], check=True)
output.say("a person would read this")
output.result({"rows": 3, "title": "Amélie"})
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = result.stdout.splitlines()
    assert json.loads(line) == {"rows": 3, "title": "Amélie"}
    assert result.stderr == ""


def test_for_people_the_result_is_left_to_words() -> None:
    code = "from flows.output import Output\no = Output(False)\no.say('[bold]as it stands[/bold]')\no.result({'a': 1})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[bold]as it stands[/bold]\n"
