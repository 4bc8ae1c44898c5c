"""What the operator wrote, as one frozen value.

    argv ── options ──> Options          which file, where to listen, where state lives
    file ── load ─────> Config           text → tree with line numbers → schema → substitution → model
    Config ── plan ───> text             what `mcpd --check` prints

`load` leads through `document` (text → tree with lines), `substitution` (`${…}`), `shape` (the schema) and
`servers` (what a schema cannot say); `faults` collects what is wrong. `model` is data alone, and every
other part of mcpd may import it; `schema.json` is the form of the file, for `load` and for editors. This
folder may import `mcpd.errors` and nothing else of mcpd. Only `load`, `substitution` and `options` touch
the file system.
"""
