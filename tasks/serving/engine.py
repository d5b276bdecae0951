"""The bundle that is served, work on it, and its replacement by another while requests run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from storage.bundle import MANIFEST, open_bundle
from storage.file_digests import file_digest
from tasks.recommender import Reader, Recommender
from tasks.serving.limits import Limits
from tasks.serving.map import user_map
from tasks.serving.metrics import Metrics
from tasks.serving.schemas import Pair, Person, Wanted
from tasks.serving.worker import Job, Worker
from thinkrec_core.errors import DataError, ThinkRecError

logger = logging.getLogger("thinkrec.serving")
SHOWN_HISTORY = 100
FOUND = 20


class Engine:
    """A loaded bundle behind a worker.

    Args:
        locate: where the bundle lies now; asked again by `refresh`, and followed when its answer or bundle.json changes.

    Raises:
        ThinkRecError: there is no bundle there, or it is damaged.
    """

    def __init__(self, locate: Callable[[], Path], limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self._locate, self._loading = locate, threading.Lock()
        self.reload_error: str | None = None
        self._mark = self._marked(locate())
        self._serve(self._loaded(self._mark[0]))
        self.worker = Worker(self.score_pairs, limits, metrics)

    @property
    def recommender(self) -> Recommender:
        """The one that is served now."""
        return self._served[0]

    @property
    def map(self) -> dict[str, list[Any]]:
        """Users on a plane, by cluster."""
        return self._served[2]

    def refresh(self) -> bool:
        """Serve what `locate` finds, if it is another bundle; True where it was replaced.

        What cannot be verified or loaded is not served: the one before stays, and `reload_error` says why.
        """
        with self._loading:
            try:
                mark = self._marked(self._locate())
                if mark == self._mark:
                    self.reload_error = None
                    return False
                loaded = self._loaded(mark[0], self.recommender)
            except (ThinkRecError, OSError) as error:
                if self.reload_error != str(error):
                    logger.warning("the new bundle is not served: %s", error)
                    self.metrics.reloads.labels("failed").inc()
                self.reload_error = str(error)
                return False
            self._serve(loaded)
            self._mark, self.reload_error = mark, None
            self.metrics.reloads.labels("done").inc()
            logger.info("bundle %s is served now", loaded.bundle.run)
            return True

    def score(self, pairs: list[Pair]) -> Job[list[Any]]:
        """Work that gives the scores of `pairs`."""
        return Job(None, len(pairs), scored=pairs)

    def recommend(self, wanted: Wanted) -> Job[dict[str, Any]]:
        """Work that gives a list and its route."""

        def run() -> dict[str, Any]:
            recommender = self.recommender
            reader = read(recommender, wanted)
            found = recommender.recommend(reader, wanted.top_k, wanted.candidates)
            return {"bundle": recommender.bundle.run, **recommender.route(reader), "recommendations": found}

        return Job(run, wanted.candidates, "list")

    def explain(self, pair: Pair, told: Callable[[dict[str, Any]], None]) -> Job[None]:
        """Work that tells the score first, then the text as it grows, then whether it is grounded."""

        def run() -> None:
            recommender = self.recommender
            reader, item = read(recommender, pair), recommender.item(pair.item_id)
            scored = recommender.score(reader, np.array([item]))
            score = float(scored.final[0])
            told(
                {
                    "bundle": recommender.bundle.run,
                    "title": recommender.texts.titles[item],
                    "score": score,
                    "encoder_score": float(scored.encoder[0]),
                    "strongest": recommender.strongest(reader, item),
                    **recommender.route(reader),
                }
            )
            text = recommender.explain(reader, item, score, lambda so_far: told({"text": so_far}))
            told({"text": text, "ungrounded": recommender.ungrounded(reader, item, text), "done": True})

        return Job(run, 1, "text")

    def profile(self, person: Person) -> Job[dict[str, Any]]:
        """Work that gives history, route and place on the map."""

        def run() -> dict[str, Any]:
            recommender, places, _ = self._served
            reader = read(recommender, person)
            rated = list(zip(reader.items, reader.labels, strict=True))[: -SHOWN_HISTORY - 1 : -1]
            titles, ids = recommender.texts.titles, recommender.item_ids
            place = places[reader.user_idx].tolist() if reader.user_idx else None
            return {
                "bundle": recommender.bundle.run,
                "name": reader.name,
                **recommender.route(reader),
                "history": [{"item_id": ids[i], "title": titles[i], "label": label} for i, label in rated],
                "position": tuple(place) if place is not None and np.isfinite(place).all() else None,
            }

        return Job(run, 1, "look")

    def users(self, typed: str) -> list[str]:
        """User ids that contain `typed`, those that begin so first."""
        return _found(self.recommender.user_ids, typed)

    def titles(self, typed: str) -> list[str]:
        """Titles that contain `typed`."""
        return _found(list(self.recommender.texts.titles[1:]), typed)

    def score_pairs(self, pairs: list[Any]) -> list[Any]:
        """Scores of `pairs` in one batch, now and in this thread; the mistake in the place of a row that has one."""
        recommender = self.recommender
        results: list[Any] = [None] * len(pairs)
        readers: list[Reader] = []
        items, places = [], []
        for place, pair in enumerate(pairs):
            try:
                reader, item = read(recommender, pair), recommender.item(pair.item_id)
            except ThinkRecError as error:
                results[place] = error
                continue
            readers.append(reader)
            items.append(item)
            places.append(place)
        if places:
            scored = recommender.score_rows(readers, np.array(items, np.int64))
            for row, place in enumerate(places):
                results[place] = {
                    "score": float(scored.final[row]),
                    "encoder_score": float(scored.encoder[row]),
                    "llm_score": float(scored.llm[row]),
                }
        return results

    def _serve(self, recommender: Recommender) -> None:
        self._served = (recommender, *user_map(recommender))  # replaced as one, between two jobs or during one
        self.metrics.serving(recommender.bundle.run, recommender.bundle.digest)

    @staticmethod
    def _marked(folder: Path) -> tuple[Path, str]:
        manifest = folder.resolve() / MANIFEST
        return folder.resolve(), file_digest(manifest) if manifest.is_file() else ""

    @staticmethod
    def _loaded(folder: Path, beside: Recommender | None = None) -> Recommender:
        return Recommender(open_bundle(folder), beside)


def read(recommender: Recommender, person: Person) -> Reader:
    """Who `person` is in the bundle.

    Raises:
        DataError: an unknown user, item or title.
    """
    if person.liked is not None:
        return recommender.stranger(person.liked)
    try:
        reader = recommender.user(str(person.user_id))
    except DataError as error:
        raise DataError(error.found, error.expected, 'send "liked": [titles] for somebody new') from None
    if person.history is None:
        return reader
    items = tuple(recommender.item(rated.item_id) for rated in person.history)
    return Reader(reader.user_idx, items, tuple(rated.label for rated in person.history), reader.name)


def _found(names: list[str], typed: str) -> list[str]:
    wanted = typed.casefold()
    having = [name for name in names if wanted in name.casefold()]
    return sorted(having, key=lambda name: not name.casefold().startswith(wanted))[:FOUND]
