"""Everything that touches bytes: the artifact store, table schemas, readers, assets, checkpoints, MLflow."""
