"""Worked examples; `examples.make_samples` makes files to try the project on."""
