"""Fuzz targets, one file a codec, written with hypothesis.

`tests/protocol/test_fuzz.py` runs each for a moment with every test run; `python -m tests.fuzz.lines --seconds
600` runs one for as long as wanted, each time with other inputs.
"""
