"""Fuzzing of the parsers that we wrote ourselves: `python -m fuzz --help`.

Every file in `targets/` is one target. It has

    SEEDS: list[bytes]           small inputs that are right, from which the fuzzer starts
    check(data: bytes) -> None   gives the bytes to the parser; whatever it raises is a finding
    SHARE: float                 of the executions asked for, less than 1 where one is slow; 1 unless told

so a target catches what the parser's contract allows, and says by `assert` what must hold for bytes that were accepted.
Coverage guides the fuzzer (Atheris, libFuzzer). It is deterministic: a seed, a number of runs, the same inputs.
"""
