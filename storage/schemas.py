"""The tables that stages exchange: column, type, unit and meaning, in one place.

A schema's version is part of its Parquet metadata; `storage.tables` refuses a file whose columns or version differ.
Nulls are allowed only where a column says so.
"""

from __future__ import annotations

import pyarrow as pa

__all__ = [
    "BUNDLE_SEEN",
    "BUNDLE_USERS",
    "CLUSTERS",
    "COSTED_REFERENCES",
    "COSTED_REFLECTIONS",
    "DESCRIPTIONS",
    "ENCODER_SCORES",
    "EXPLANATIONS",
    "INTERACTIONS",
    "ITEMS",
    "JOURNAL",
    "PREDICTIONS",
    "REFERENCES",
    "REFLECTIONS",
    "REJECTED",
    "SAMPLES",
    "STUDENT_TEXTS",
    "WINDOW_SCORES",
    "WRONG",
]


def _column(name: str, kind: pa.DataType, meaning: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"meaning": meaning})


def _described(field: pa.Field, name: str, meaning: str) -> pa.Field:
    """`field`; the one called `name` with another meaning."""
    return field.with_metadata({"meaning": meaning}) if field.name == name else field


def _schema(name: str, version: int, columns: list[pa.Field]) -> pa.Schema:
    return pa.schema(columns, metadata={"thinkrec.table": name, "thinkrec.version": str(version)})


_IDX_LIST = pa.list_(pa.field("element", pa.int32(), nullable=False))
_LABEL_LIST = pa.list_(pa.field("element", pa.int8(), nullable=False))

INTERACTIONS = _schema(
    "interactions",
    1,
    [
        _column("user_id", pa.string(), "raw user id of the source"),
        _column("item_id", pa.string(), "raw item id of the source"),
        _column("user_idx", pa.int32(), "1..U in the order (first timestamp, raw id); 0 is padding"),
        _column("item_idx", pa.int32(), "1..I in the order (first timestamp, raw id); 0 is padding"),
        _column("label", pa.int8(), "1 liked, 0 not"),
        _column("timestamp", pa.int64(), "seconds since 1970-01-01 UTC"),
        _column("split", pa.string(), "train, valid or test"),
    ],
)

ITEMS = _schema(
    "items",
    1,
    [
        _column("item_idx", pa.int32(), "1..I"),
        _column("item_id", pa.string(), "raw item id of the source"),
        _column("title", pa.string(), "title as shown to the LLM, year included where the source has it"),
        _column("keywords", pa.string(), "comma-separated genres or keywords; empty where unknown"),
    ],
)

DESCRIPTIONS = _schema(
    "descriptions",
    1,
    [
        _column("item_idx", pa.int32(), "1..I"),
        _column("description", pa.string(), "what the source says about the item, cut; never empty"),
    ],
)
"""Only where keywords are condensed from them."""

SAMPLES = _schema(
    "samples",
    1,
    [
        _column("user_id", pa.string(), "raw user id"),
        _column("item_id", pa.string(), "raw item id of the target"),
        _column("user_idx", pa.int32(), "1..U"),
        _column("item_idx", pa.int32(), "1..I, the target"),
        _column("label", pa.int8(), "1 liked, 0 not"),
        _column("timestamp", pa.int64(), "seconds since 1970-01-01 UTC"),
        _column("split", pa.string(), "train, valid or test"),
        _column("not_cold", pa.bool_(), "user and item both occur in train"),
        _column("history_item_idx", _IDX_LIST, "earlier items of the user, oldest first, newest last"),
        _column("history_label", _LABEL_LIST, "their labels"),
    ],
)

REJECTED = _schema(
    "rejected",
    1,
    [
        _column("file", pa.string(), "name of the source file"),
        _column("row", pa.int64(), "data row in the file, from 1"),
        _column("reason", pa.string(), "what was found and what was expected"),
    ],
)

ENCODER_SCORES = _schema(
    "encoder_scores",
    1,
    [
        _column("row", pa.int32(), "row number in samples_{split}, from 0"),
        _column("logit", pa.float32(), "score of the encoder; out of fold for train rows"),
    ],
)

WRONG = _schema(
    "wrong_predictions",
    1,
    [
        _column("row", pa.int32(), "row number in samples_train, from 0"),
        _column("user_idx", pa.int32(), "1..U"),
        _column("item_idx", pa.int32(), "1..I, the target"),
        _column("label", pa.int8(), "gold label"),
        _column("p_yes", pa.float32(), "sigmoid of the student's score; on the wrong side of .5"),
        _column("title", pa.string(), "title of the target"),
        _column("keywords", pa.string(), "keywords of the target"),
        _column("history_titles", pa.list_(pa.field("element", pa.string(), nullable=False)), "oldest first"),
        _column("history_label", _LABEL_LIST, "their labels"),
    ],
)

REFLECTIONS = _schema(
    "reflections",
    1,
    [
        _column("row", pa.int32(), "row number in samples_train, from 0"),
        _column("label", pa.int8(), "gold label"),
        _column("verdict", pa.string(), "last parsed verdict: yes, no; null if none", nullable=True),
        _column("trace", pa.string(), "reasoning of the accepted answer, whitespace collapsed; empty if none"),
        _column("answer", pa.string(), "final answer of the teacher as it came"),
        _column("rounds", pa.int32(), "requests of the dialogue"),
        _column("hint_ids", _IDX_LIST, "hints used, in order"),
        _column("prompt_tokens", pa.int64(), "sum over the rounds"),
        _column("completion_tokens", pa.int64(), "sum over the rounds"),
        _column("model", pa.string(), "model name of the teacher"),
        _column("prompt_version", pa.string(), "version of the dialogue templates"),
        _column("accepted", pa.bool_(), "may be trained on"),
        _column("reason", pa.string(), "why it was rejected; empty if accepted"),
    ],
)

REFERENCES = _schema(
    "reference_traces",
    1,
    [
        _column("split", pa.string(), "valid or test"),
        *(_described(field, "row", "row number in samples_{split}, from 0") for field in REFLECTIONS),
    ],
)
"""Traces about held-out rows, written with their gold labels: for metrics of explanations, never for training."""

_COSTS = [
    _column("requests", pa.int32(), "answers of the teacher, those from the journal included, and failures"),
    _column("reused", pa.int32(), "requests that the journal answered"),
    _column("attempts", pa.int32(), "tries over all requests"),
    _column("seconds", pa.float64(), "latency: sum over the requests of the try that was answered"),
    _column("cost", pa.float64(), "tokens at the prices of the run that wrote the table; null without", nullable=True),
]
COSTED_REFLECTIONS = _schema("reflections_with_costs", 1, [*REFLECTIONS, *_COSTS])
COSTED_REFERENCES = _schema("reference_traces_with_costs", 1, [*REFERENCES, *_COSTS])
"""With what the answers took, which differs between equal runs."""

JOURNAL = _schema(
    "journal",
    1,
    [
        _column("key", pa.string(), "sha256 of the text in request"),
        _column("model", pa.string(), "model name of the teacher"),
        _column("round", pa.int32(), "round of the dialogue, from 1; 0 for other requests, such as for keywords"),
        _column("request", pa.string(), "model, round, messages and parameters as canonical JSON; names no user"),
        _column("content", pa.string(), "answer of the teacher as it came"),
        _column("reasoning_content", pa.string(), "its thinking, under this name; empty if none"),
        _column("reasoning", pa.string(), "its thinking, under that name; empty if none"),
        _column("unreadable", pa.string(), "start of a body that was no chat completion; else empty"),
        _column("finish_reason", pa.string(), "as the server told it"),
        _column("prompt_tokens", pa.int64(), "as the server counted; 0 where it did not"),
        _column("completion_tokens", pa.int64(), "as the server counted; 0 where it did not"),
        _column("seconds", pa.float64(), "latency of the try that was answered"),
        _column("attempts", pa.int32(), "tries of the request"),
    ],
)
"""A journal to hand on: each answer with the request that it answers."""

CLUSTERS = _schema(
    "clusters",
    2,
    [
        _column("user_idx", pa.int32(), "1..U"),
        _column("train_rows", pa.int32(), "train rows of the user"),
        _column("cluster", pa.int32(), "0..N-1; -1 for users without train rows"),
    ],
)

BUNDLE_USERS = _schema(
    "bundle_users",
    1,
    [
        _column("user_idx", pa.int32(), "1..U"),
        _column("user_id", pa.string(), "raw user id of the source"),
        _column("history_item_idx", _IDX_LIST, "items that stand in the history of a row to come, newest last"),
        _column("history_label", _LABEL_LIST, "their labels"),
    ],
)

BUNDLE_SEEN = _schema(
    "bundle_seen",
    1,
    [
        _column("user_idx", pa.int32(), "1..U"),
        _column("item_idx", pa.int32(), "an item that the user has rated: never recommended again"),
    ],
)

PREDICTIONS = _schema(
    "predictions",
    1,
    [
        _column("user_id", pa.string(), "raw user id"),
        _column("item_id", pa.string(), "raw item id"),
        _column("timestamp", pa.int64(), "seconds since 1970-01-01 UTC"),
        _column("label", pa.int8(), "1 liked, 0 not"),
        _column("not_cold", pa.bool_(), "user and item both occur in train"),
    ],
)
"""Followed by one float64 column score_<rung> for each rung of the run."""

WINDOW_SCORES = _schema(
    "window_scores",
    1,
    [
        _column("row", pa.int32(), "row number in samples_valid"),
        _column("user_idx", pa.int32(), "user of the data, not of the bundle"),
        _column("label", pa.int8(), "1 liked, 0 not"),
        _column("known_user", pa.bool_(), "the bundle knows the user"),
        _column("known_item", pa.bool_(), "the bundle knows the item; without it there is no score"),
        _column("score", pa.float64(), "final score of the bundle; 0 where known_item is false"),
    ],
)

STUDENT_TEXTS = _schema(
    "student_texts",
    1,
    [
        _column("split", pa.string(), "valid or test"),
        _column("row", pa.int32(), "row number in samples_{split}, from 0"),
        _column("score", pa.float64(), "logit of the trained student: its user's route, prior included"),
        _column("text", pa.string(), "Yes. or No. as the score says, and the student's reasons"),
    ],
)

_TEXTS = pa.list_(pa.field("element", pa.string(), nullable=False))


def _with_floor(name: str, meaning: str) -> list[pa.Field]:
    return [
        _column(name, pa.float64(), meaning, nullable=True),
        _column(f"{name}_floor", pa.float64(), "the same beside other rows, mean", nullable=True),
    ]


EXPLANATIONS = _schema(
    "explanations",
    1,
    [
        _column("split", pa.string(), "valid or test"),
        _column("row", pa.int32(), "row number in samples_{split}, from 0"),
        _column("user_id", pa.string(), "raw user id"),
        _column("item_id", pa.string(), "raw item id of the target"),
        _column("title", pa.string(), "title of the target"),
        _column("label", pa.int8(), "1 liked, 0 not"),
        _column("score", pa.float64(), "logit of the student; above 0 it says Yes"),
        _column("trace", pa.string(), "the student's reasons without their verdict"),
        _column("reference", pa.string(), "the teacher's reasons, written with the gold label"),
        *_with_floor("meteor", "METEOR without synonyms, 0..1"),
        *_with_floor("bleu", "BLEU of the single text, 0..1"),
        *_with_floor("rouge_l", "ROUGE-L F1, 0..1"),
        *_with_floor("embedding_cosine", "cosine of sentence embeddings; null without an encoder"),
        *_with_floor("bertscore_f1", "BERTScore F1; null without an encoder"),
        *_with_floor("consistency", "1 if the trace argues for the verdict of the score; null if for none"),
        *_with_floor("groundedness", "share of named catalogue titles that are known; null if it names none"),
        _column("argued", pa.string(), "verdict that the trace argues for: yes, no; null if none", nullable=True),
        _column("named", _TEXTS, "catalogue titles that the trace names, as it writes them"),
        _column("ungrounded", _TEXTS, "of these, the ones outside of the shown history that are not the target"),
        _column("unknown", _TEXTS, "quoted passages like titles that the catalogue does not hold"),
    ],
)
"""One row per explanation; figures are those of the single text."""
