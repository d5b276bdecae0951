"""A chat server that fails on command: a process of its own, with an account of what it was asked and what it billed.

    with fault_server() as server:
        server.plan({"3": ["429", "cut"]}, delay=0.01)      # what happens to the first two requests about "Item 3"
        ...
        server.account()["billed"]

The liked items are those with odd numbers; after its faults an item is answered rightly. Billed is an answer that was sent
to the last byte while the client listened; an answer that was cut, or given up by the client, is `possibly` billed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import subprocess
import sys
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REASONS = "The user prefers quiet dramas of that time."
REFUSALS: dict[str, tuple[int, dict[str, str]]] = {
    "429": (429, {}),
    "429_after": (429, {"Retry-After": "0.2"}),
    "500": (500, {}),
    "503": (503, {}),
    "503_after": (503, {"Retry-After": "0.1"}),
    "400": (400, {}),
    "401": (401, {}),
}
WAYS = ("cut", "hang", "drip", "slow")
"""How a whole answer fails to come: cut in the middle, never begun, a byte now and then; `slow` comes in the end."""
CONTENTS = ("wrong", "both", "empty", "reasoning_only", "invalid_json", "huge", "right")
FAULTS = (*REFUSALS, *WAYS, *CONTENTS)
HUGE = 2_000_000
ITEM = re.compile(r'like \\?"Item (\d+)\\?"')


@dataclass
class Account:
    """What the server saw since its last plan."""

    asked: int = 0
    refused: int = 0
    billed: int = 0
    possibly: int = 0
    billed_by_request: Counter[str] = field(default_factory=Counter)
    requests: set[str] = field(default_factory=set)
    keys: Counter[str] = field(default_factory=Counter)
    flying: int = 0
    most_flying: int = 0

    def shown(self) -> dict[str, Any]:
        """The counts as JSON."""
        return {
            "asked": self.asked,
            "unique": len(self.requests),
            "refused": self.refused,
            "billed": self.billed,
            "billed_twice": sum(count - 1 for count in self.billed_by_request.values()),
            "possibly": self.possibly,
            "keys": dict(self.keys),
            "flying": self.flying,
            "most_flying": self.most_flying,
        }


class Server:
    """The plan in force and its account."""

    def __init__(self) -> None:
        self.set_plan({})

    def set_plan(self, plan: Mapping[str, Any]) -> None:
        """Begin anew: faults by item in the order of its requests, seconds before each answer, keys that are refused."""
        self.faults: dict[str, list[str]] = {item: list(faults) for item, faults in plan.get("faults", {}).items()}
        self.default: list[str] = list(plan.get("default", []))
        self.delay = float(plan.get("delay", 0.0))
        self.rejected_keys = set(plan.get("rejected_keys", []))
        self.limited_keys = set(plan.get("limited_keys", []))
        self.times: defaultdict[str, int] = defaultdict(int)
        self.said: dict[str, str] = {}
        self.account = Account()

    def next_fault(self, item: str, request: str) -> str:
        """What happens to this `request` about `item`; one that got an answer before gets the same again."""
        if request in self.said:
            return self.said[request]
        time = self.times[item]
        self.times[item] += 1
        faults = self.faults.get(item, self.default)
        fault = faults[time] if time < len(faults) else "right"
        if fault in CONTENTS:
            self.said[request] = fault
        return fault


class Connection(asyncio.Protocol):
    """One client connection: requests one after the other."""

    def __init__(self, server: Server) -> None:
        self.server, self.data, self.gone = server, b"", False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, rest = self.data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        size = int(length.group(1)) if length else 0
        if found and len(rest) >= size:
            self.data = rest[size:]
            self.task = asyncio.ensure_future(self.serve(head, rest[:size]))

    async def serve(self, head: bytes, body: bytes) -> None:
        """Answer one request."""
        if b"/chat/completions" not in head.partition(b"\r\n")[0]:
            if body:
                self.server.set_plan(json.loads(body))
            return self.send(200, json.dumps(self.server.account.shown()).encode())
        account = self.server.account
        account.flying += 1
        account.most_flying = max(account.most_flying, account.flying)
        try:
            await self.answer(account, head, body)
        finally:
            account.flying -= 1

    async def answer(self, account: Account, head: bytes, body: bytes) -> None:
        """Do to this request what the plan says, and put it in the account."""
        request = hashlib.sha256(body).hexdigest()
        key = (re.search(rb"(?i)authorization: bearer (\S+)", head) or [b"", b""])[1].decode()
        account.asked += 1
        account.requests.add(request)
        account.keys[key] += 1
        said = "\n".join(message["content"] for message in json.loads(body)["messages"])
        item = (ITEM.search(said) or ["", "0"])[1]
        if key in self.server.rejected_keys or key in self.server.limited_keys:
            fault = "401" if key in self.server.rejected_keys else "429_after"
        else:
            fault = self.server.next_fault(item, request)
        await asyncio.sleep(self.server.delay)
        if fault in REFUSALS:
            account.refused += 1
            status, headers = REFUSALS[fault]
            told = f"refused as planned, key {key}"
            return self.send(status, json.dumps({"error": {"message": told}}).encode(), headers)
        if await self.deliver(fault, completion(fault, int(item))):
            account.billed += 1
            account.billed_by_request[request] += 1
        else:
            account.possibly += 1
        return None

    async def deliver(self, fault: str, body: bytes) -> bool:
        """True where the client got all of `body`."""
        if fault == "hang":
            while not self.gone:
                await asyncio.sleep(0.01)
        elif fault == "cut":
            self.transport.write(_head(200, len(body)) + body[: len(body) // 2])
            await asyncio.sleep(0.01)
            self.transport.abort()
            return False
        elif fault in ("drip", "slow"):
            self.transport.write(_head(200, len(body)))
            step = 1 if fault == "drip" else len(body) // 5 + 1
            for start in range(0, len(body), step):
                await asyncio.sleep(0.03)
                if self.gone:
                    return False
                self.transport.write(body[start : start + step])
        elif not self.gone:
            self.send(200, body)
        while not self.gone and self.transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
        return not self.gone

    def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """One whole response."""
        if not self.gone:
            self.transport.write(_head(status, len(body), headers) + body)


def completion(fault: str, item: int) -> bytes:
    """The body of an answer about `item`."""
    right, wrong = ("Yes", "No") if item % 2 else ("No", "Yes")
    content, thinking = f"{right}. {REASONS}", ""
    if fault == "wrong":
        content = f"{wrong}. {REASONS}"
    elif fault == "both":
        content = f"{wrong}, or {right}, who knows. {REASONS}"
    elif fault == "empty":
        content = ""
    elif fault == "reasoning_only":
        content, thinking = "", f"{right}, since {REASONS}"
    elif fault == "huge":
        content = f"{right}. {'words and words ' * (HUGE // 16)}"
    elif fault == "invalid_json":
        return b'{"choices": [{"message": {"content": "Yes'
    message = {"role": "assistant", "content": content, "reasoning_content": thinking}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    shape = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    return json.dumps({**shape, "choices": [choice], "usage": usage}).encode()


def _head(status: int, length: int, headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Planned", "Content-Type: application/json", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True)
class FaultServer:
    """The running server, seen from a test."""

    url: str

    def plan(self, faults: Mapping[str, Sequence[str]] | None = None, **values: Any) -> None:
        """Begin anew with `faults` by item; see Server.set_plan for other values."""
        self._call(json.dumps({"faults": faults or {}, **values}).encode())

    def account(self) -> dict[str, Any]:
        """The counts since the last plan."""
        return self._call(None)

    def _call(self, body: bytes | None) -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(self.url.removesuffix("/v1") + "/account", body)
        with opener.open(request, timeout=20) as response:
            return dict(json.loads(response.read()))


@contextlib.contextmanager
def fault_server() -> Iterator[FaultServer]:
    """A server in a process of its own, ended with the block."""
    command = [sys.executable, str(Path(__file__).resolve())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield FaultServer(f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
        finally:
            process.kill()


async def _serve() -> None:
    server = Server()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=512)
    print(listener.sockets[0].getsockname()[1], flush=True)
    # The pipe to the test ends with the test's process, however that ends.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve())
