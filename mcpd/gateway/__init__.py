"""Many backends, one server. Routing and naming never ask by which version or transport a call came.

`gateway` is the walk: a client's request comes in with its session and goes out as a result. `catalog` holds
what all backends offer under the names of `naming`; `routing` finds whose resource a URI is; `sessions`
remembers clients, whose ids are from `seal` under the key in the `vault`; `local` answers what needs no
backend; `subscriptions` and `levels` hold what clients want to hear; `notices` carries news up to the clients
they concern. May import: everything of a lower rank.
"""
