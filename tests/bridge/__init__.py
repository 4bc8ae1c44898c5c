"""Random mixtures of clients and backends of both eras, driven against a model of what each must hear."""
