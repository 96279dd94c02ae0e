"""One target a file; see `fuzz`."""
