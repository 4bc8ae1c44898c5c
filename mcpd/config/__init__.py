"""What the operator wrote, as one frozen value.

    argv ── options ──> Options          which file, where to listen, where state lives
    files ── sources ─> Reading          texts → trees with line numbers → schema → substitution → one model
    Config ── plan ───> text             what `mcpd --check` prints

`sources` reads the main file and the drop-ins (`load`), and the `overlay`, whose file `store` keeps. What they say
becomes one Config in `build`, by way of `document` (text → tree with lines), `substitution` (`${…}`), `shape` (the
schema) and `servers` (what a schema cannot say); `faults` collects what is wrong, `origins` say where each server is
from. `model` is data alone, and every other part of mcpd may import it; `shown` is what operators see of it; `diff`
says what a reload has to do. `schema.json` is the form of the file, for `build` and for editors. This folder may import
`mcpd.errors` and `mcpd.redaction`, and nothing else of mcpd. Only `sources`, `load`, `store`, `substitution` and
`options` touch the file system.
"""
