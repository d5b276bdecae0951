"""The folder that MLflow loads and serves, made out of a bundle."""

from __future__ import annotations

import importlib.metadata
import warnings
from pathlib import Path

from storage.bundle import Bundle
from storage.new_folder import new_folder


def write_mlflow_model(bundle: Bundle, out: Path) -> None:
    """Write `bundle` as a python_function model to the new folder `out`, which appears whole or not at all.

    Raises:
        DataError: `out` is there already or cannot be written.
    """
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, TensorSpec

    text, number = DataType.string, DataType.double
    whole_numbers = Array(DataType.long)
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(text, "user_id"),
        ColSpec(text, "item_id"),
        ColSpec(whole_numbers, "history_item_idx", required=False),
        ColSpec(whole_numbers, "history_label", required=False),
    ]
    names = ("score", "encoder_score", "llm_score")
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(text, "user_id"),
        ColSpec(text, "item_id"),
        *(ColSpec(number, name) for name in names),
    ]
    with new_folder(out) as building, warnings.catch_warnings():
        # Advice for models whose signature is to be guessed; ours is given.
        warnings.simplefilter("ignore", UserWarning)
        save_model(
            str(building / "model"),
            python_model=str(Path(__file__).with_name("bundle_model.py")),
            artifacts={"bundle": str(bundle.path)},
            signature=ModelSignature(Schema(inputs), Schema(outputs)),
            pip_requirements=[f"thinkrec=={importlib.metadata.version('thinkrec')}"],
        )
        for part in (building / "model").iterdir():
            part.rename(building / part.name)
        (building / "model").rmdir()
