"""The upgrade in place: mcpd replaces itself by its new code in the same process, and nobody notices.

    old program   check ──▶ hold back ──▶ wait until quiet ──▶ capture ──▶ exec
    new program                                                            └▶ take up ──▶ go on

Everybody who has something that must outlive the program captures it and takes it up himself (`supervisor.adoption`,
`backends.inheritance`, `wire.http_carrying`, `gateway.handover`); in here all of it is put together, and the exec is
done. It imports from everywhere below; the daemon calls it.
"""
