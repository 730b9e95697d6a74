"""A cache-aside reader beside tablerelay: rows from Redis, and on a miss from the table, filled in through the script.

A plain HSET after a miss could put back a row that was changed or deleted while the reader was on its way. The script
(src/cache/refresh.lua of tablerelay; copy it beside the application) never replaces a newer version.

    reader = CacheAside(table_client, redis.Redis(), Path("refresh.lua").read_text())
    row = reader.get("customer-17", "1")
"""

import json
from urllib.parse import quote

from azure.core.exceptions import ResourceNotFoundError


def cache_key(table, partition, row):
    return ":".join(quote(part, safe="-._~") for part in (table.lower(), partition, row))


def entry_of(body):
    """A row's entry from the service's reply: without ETag and Timestamp, and with the type of every Double said."""
    row = {
        name: value
        for name, value in json.loads(body).items()
        if not name.startswith("odata.") and name.removesuffix("@odata.type") != "Timestamp"
    }
    entry = {}
    for name in [name for name in ("PartitionKey", "RowKey", "RelayVersion") if name in row] + list(row):
        if isinstance(row[name], float):
            entry.setdefault(f"{name}@odata.type", row.get(f"{name}@odata.type", "Edm.Double"))
        entry.setdefault(name, row[name])
    return entry


class CacheAside:
    """`script` is the text of refresh.lua, `ttl` the time to live of what is filled in, in seconds."""

    def __init__(self, table_client, cache, script, ttl=3600):
        self.table, self.cache, self.ttl = table_client, cache, ttl
        self.refresh = cache.register_script(script)

    def get(self, partition, row):
        """The row as the service's JSON says it, properties and their @odata.type, or None where there is none."""
        key = cache_key(self.table.table_name, partition, row)
        cached = self.cache.hget(key, "e")
        if cached is not None:
            return json.loads(cached)
        entry = self._read(partition, row)
        # A row that tablerelay has not stamped yet has no version to be guarded by: it is not cached.
        if entry is not None and "RelayVersion" in entry:
            text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
            self.refresh(keys=[key], args=["fill", entry["RelayVersion"], self.ttl * 1000, text])
        return entry

    def _read(self, partition, row):
        bodies = []
        try:
            self.table.get_entity(partition, row, raw_response_hook=lambda reply: bodies.append(reply.http_response.text()))
        except ResourceNotFoundError:
            return None
        return entry_of(bodies[-1])
