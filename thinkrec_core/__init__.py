"""The method of ThinkRec (WWW 2026, arXiv 2505.15091): arrays, tensors and records in, values out.

Nothing here knows Prefect, MLflow, DuckDB, paths, the environment, clocks or global seeds. Package `__init__` files stay
empty of imports: the code digest of a stage follows imports, and an `__init__` that imports everything would make every
stage depend on everything.
"""
