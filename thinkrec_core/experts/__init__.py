"""User clusters, the router, and exact fusion of expert adapters."""
