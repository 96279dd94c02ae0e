"""The training loop and what it stands on: the only place where weights change."""
