"""The reasoning teacher: its endpoint, the client and its limits, the conversations, and the local server."""
