"""A bundle as MLflow's python_function: this file is copied into the model folder and executed when the model is loaded.

The model holds code and the bundle's files, no pickle; thinkrec has to be installed where it is loaded.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

if TYPE_CHECKING:
    import pandas as pd


class BundleModel(PythonModel):
    """Scores rows of users and items as `thinkrec score` does."""

    def load_context(self, context: Any) -> None:
        """Verify and load the bundle.

        Raises:
            StoreError: a file differs from its digest.
        """
        from storage.bundle import open_bundle
        from tasks.recommender import Recommender  # loads torch

        # MLflow's server calls predict from many threads, and gates and attention of a batch are the model's.
        self._one_at_a_time = Lock()
        self._recommender = Recommender(open_bundle(Path(context.artifacts["bundle"])))

    def predict(self, context: Any, model_input: Any, params: Any = None) -> pd.DataFrame:
        """user_id, item_id, score, encoder_score and llm_score, in the order of the rows.

        Args:
            model_input: a frame with user_id and item_id, and history_item_idx and history_label where a row has a history
                of its own.

        Raises:
            DataError: a column is missing, or a user or item is unknown.
        """
        import pyarrow as pa

        from tasks.score_file import score_table

        table = pa.Table.from_pandas(model_input, preserve_index=False)
        with self._one_at_a_time:
            return score_table(self._recommender, table).to_pandas()


set_model(BundleModel())
