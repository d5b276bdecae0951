"""The LLM recommender: prompts, soft tokens, losses, schedule, scoring."""
