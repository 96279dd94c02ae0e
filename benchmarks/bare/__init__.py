"""What a modality costs without a builder: the field's libraries called one after the other, nothing written.

A file a modality, each with CANDIDATES: name → a function that takes a file and returns how many units of work it did.
The fastest candidate is what a builder is measured against.
"""
