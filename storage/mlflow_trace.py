"""One finished chat request as one MLflow trace of one span, written in one go with the times of the record.

MLflow's tracing API measures calls while they run and exports them from a queue; here the call is over, and its record
may come from a journal of an earlier try.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

PREVIEW = 500
"""Characters of the request and the response in lists of traces."""


def succeeded(record: Mapping[str, Any]) -> bool:
    """True where the record's status says that the endpoint answered ("ok", "answered" or 200)."""
    return str(record.get("status", "ok")).lower() in ("ok", "answered", "200")


def store_trace(uri: str, experiment_id: str, run_id: str, record: Mapping[str, Any]) -> None:
    """Write `record` (request, response, seconds, row, round, status) as a trace of run `run_id`.

    Raises:
        Exception: whatever MLflow raises when the database cannot be written; the caller degrades.
    """
    from mlflow.entities import Span, TraceInfo, TraceLocation, TraceState
    from mlflow.tracing.client import TracingClient

    seconds = float(record.get("seconds") or 0.0)
    end = time.time_ns()
    start = end - int(seconds * 1e9)
    ok = succeeded(record)
    trace_id = f"tr-{secrets.token_hex(16)}"
    request, response = (_json(record.get(key)) for key in ("request", "response"))
    facts = {key: _json(record.get(key)) for key in ("row", "round", "status")}
    span = Span.from_dict(
        {
            "trace_id": trace_id,
            "span_id": secrets.token_hex(8),
            "parent_span_id": None,
            "name": "teacher",
            "start_time_unix_nano": start,
            "end_time_unix_nano": end,
            "status": {"code": "OK" if ok else "ERROR", "message": facts["status"]},
            "attributes": {
                "mlflow.traceRequestId": _json(trace_id),
                "mlflow.spanType": _json("CHAT_MODEL"),
                "mlflow.spanInputs": request,
                "mlflow.spanOutputs": response,
                **facts,
            },
            "events": [],
        }
    )
    info = TraceInfo(
        trace_id=trace_id,
        trace_location=TraceLocation.from_experiment_id(experiment_id),
        request_time=start // 1_000_000,
        execution_duration=int(seconds * 1000),
        state=TraceState.OK if ok else TraceState.ERROR,
        request_preview=request[:PREVIEW],
        response_preview=response[:PREVIEW],
        trace_metadata={"mlflow.sourceRun": run_id},
        tags={"mlflow.traceName": "teacher", **facts},
    )
    client = TracingClient(uri)
    client.start_trace(info)
    client.log_spans(experiment_id, [span])


def _json(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
