"""Fuzz targets, one file a codec, written with hypothesis.

`tests/protocol/test_fuzz.py` runs each for a moment with every test run. For longer, with other inputs each
time: `python -m tests.fuzz.lines --seconds 600`.
"""
