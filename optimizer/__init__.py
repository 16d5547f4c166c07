"""How it is solved: drivers and backends that know no data centre."""
