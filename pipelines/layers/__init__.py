"""Mask layers: one a file, a description (`SPEC`) and a pure function."""
