"""The table of what works between clients and servers of both eras: docs/compatibility.md, made from a run.

`columns` says which clients, transports and servers there are, and starts them; `clients` gives clients of both eras
one face; `rows` is what a row is; `opening`, `calls`, `content`, `asking`, `running`, `news`, `wire` and `failing` are
the rows, by theme, and `features` has them all; `notes` explains the cells that say anything but yes; `render` writes
the document, `run` fills it in.
"""
