"""The routes of the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tasks.serving.engine import Engine
from tasks.serving.guards import Guards
from tasks.serving.metrics import CONTENT_TYPE
from tasks.serving.schemas import (
    ClusterMap,
    Health,
    Names,
    Pair,
    Pairs,
    Person,
    Problem,
    Profile,
    Recommended,
    Scores,
    Wanted,
)
from tasks.serving.worker import Job, Refused
from thinkrec_core.errors import ThinkRecError, one_line

T = TypeVar("T")
PAGE = Path(__file__).parent / "page"
LOCAL = ("127.0.0.1", "localhost", "[::1]")
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The server asks for a token"},
    408: {"model": Problem, "description": "The body came too slowly"},
    413: {"model": Problem, "description": "The body is too large"},
}
WORK: dict[int | str, dict[str, Any]] = {
    **REFUSALS,
    400: {"model": Problem, "description": "The body is no JSON"},
    404: {"model": Problem, "description": "Unknown user, item or title"},
    429: {"model": Problem, "description": "Too much work is waiting; Retry-After says how long"},
    503: {"model": Problem, "description": "Not finished in time, or the server stops; Retry-After says how long"},
}
Typed = Annotated[str, Query(max_length=200)]


class Dropped(Exception):
    """Nobody waits for the answer any more."""


def create_app(
    engine: Engine, token: str | None = None, reload_seconds: float | None = None, hosts: tuple[str, ...] = LOCAL
) -> FastAPI:
    """The application around `engine`; it closes the engine's worker when it ends.

    Args:
        token: bearer token that data needs.
        reload_seconds: how often the engine looks for another bundle.
        hosts: values of the Host header that are answered: a page of another site cannot reach the server by a name of its own.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(_watch(engine, reload_seconds)) if reload_seconds else None
        yield
        if watching is not None:
            watching.cancel()
        await asyncio.to_thread(engine.worker.close, engine.limits.drain_seconds)

    app = FastAPI(title="thinkrec", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    secured = [Depends(HTTPBearer(auto_error=False))] if token else []

    async def done(job: Job[T]) -> T:
        future = engine.worker.submit(job)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), engine.limits.seconds)
        except TimeoutError:
            future.cancel()
            engine.metrics.refused.labels("time").inc()
            raise Refused(503, "not finished in time", engine.limits.seconds / 2) from None

    @app.post("/recommend", responses=WORK, dependencies=secured)
    async def recommend(wanted: Wanted) -> Recommended:
        """A list of unseen items, best first."""
        return Recommended.model_validate(await done(engine.recommend(wanted)))

    @app.post("/score", responses=WORK, dependencies=secured)
    async def score(pairs: Pairs) -> Scores:
        """Scores of rows, in their order."""
        found = await done(engine.score(pairs.rows))
        return Scores.model_validate({"bundle": engine.recommender.bundle.run, "scores": found})

    @app.post("/explain", responses={**WORK, 200: _LINES}, dependencies=secured, response_class=StreamingResponse)
    async def explain(pair: Pair) -> StreamingResponse:
        """Lines of JSON: the score; then `text` as it grows; at last `done` with titles that the text should not name."""
        lines = await _first(engine, pair)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    @app.post("/profile", responses=WORK, dependencies=secured)
    async def profile(person: Person) -> Profile:
        """History, route, gates and place on the map."""
        return Profile.model_validate(await done(engine.profile(person)))

    @app.get("/users", responses=REFUSALS, dependencies=secured)
    async def users(q: Typed = "") -> Names:
        """Ids of users that contain q."""
        return Names(names=engine.users(q))

    @app.get("/titles", responses=REFUSALS, dependencies=secured)
    async def titles(q: Typed = "") -> Names:
        """Titles that contain q."""
        return Names(names=engine.titles(q))

    @app.get("/map", responses=REFUSALS, dependencies=secured)
    async def cluster_map() -> ClusterMap:
        """Users on a plane, by cluster."""
        return ClusterMap.model_validate(engine.map)

    @app.get("/health")
    async def health() -> Health:
        """Whether the server answers, and with which bundle."""
        bundle = engine.recommender.bundle
        status = "stopping" if engine.worker.closed else "ok"
        return Health(status=status, bundle=bundle.run, digest=bundle.digest, reload_error=engine.reload_error)

    @app.get("/metrics", responses=REFUSALS, dependencies=secured, response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(engine.metrics.text(), media_type=CONTENT_TYPE)

    for path, name in (("/", "page.html"), ("/page.css", "page.css"), ("/page.js", "page.js")):
        app.add_api_route(path, _file(PAGE / name), include_in_schema=False)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(ThinkRecError, _unknown)
    app.add_exception_handler(RequestValidationError, _invalid)
    paths = frozenset(route.path for route in app.routes if hasattr(route, "path"))
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(Guards, limits=engine.limits, metrics=engine.metrics, token=token, paths=paths)
    return app


_LINES = {"description": "Lines of JSON", "content": {"application/x-ndjson": {"schema": {"type": "string"}}}}


async def _first(engine: Engine, pair: Pair) -> AsyncIterator[str]:
    """The lines of an explanation, begun only when the first one is there, so that an error has a status of its own."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()
    dropped = False

    def told(line: dict[str, Any]) -> None:
        if dropped:
            raise Dropped
        loop.call_soon_threadsafe(lines.put_nowait, line)

    future = engine.worker.submit(engine.explain(pair, told))
    future.add_done_callback(lambda done: loop.call_soon_threadsafe(lines.put_nowait, None))
    until = loop.time() + engine.limits.seconds
    try:
        async with asyncio.timeout_at(until):
            first = await lines.get()
    except TimeoutError:
        dropped = True
        future.cancel()
        engine.metrics.refused.labels("time").inc()
        raise Refused(503, "not finished in time", engine.limits.seconds / 2) from None
    if first is None:
        future.result()

    async def rest() -> AsyncIterator[str]:
        nonlocal dropped
        try:
            line = first
            while line is not None:
                yield json.dumps(line) + "\n"
                async with asyncio.timeout_at(until):
                    line = await lines.get()
            if future.exception() is not None:
                logging.getLogger("thinkrec.serving").error("an explanation failed", exc_info=future.exception())
                yield json.dumps({"error": "the explanation failed"}) + "\n"
        except TimeoutError:
            yield json.dumps({"error": "not finished in time"}) + "\n"
        finally:
            dropped = True

    return rest()


async def _watch(engine: Engine, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(engine.refresh)
        except Exception:  # a bug in a reload must not end the watch
            logging.getLogger("thinkrec.serving").exception("the bundle could not be looked for")


def _file(path: Path) -> Any:
    async def file() -> FileResponse:
        return FileResponse(path)

    return file


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return JSONResponse({"detail": str(error)}, error.status, {"Retry-After": str(error.retry_after)})


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": _text(str(error))}, 404)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Where and why, never the input: it may hold what JSON cannot carry back, such as NaN or half a character."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    status = 400 if any(each["type"] == "json_invalid" for each in found) else 422
    told = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found[:5]]
    return JSONResponse({"detail": _text("; ".join(told))}, status)


def _text(message: str) -> str:
    return one_line(message.encode("utf-8", "replace").decode())
