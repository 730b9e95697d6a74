# A reader in a process of its own: a request a line, a reply a line. Run in examples/python.
#
#   get PARTITION ROW    what the reader returns, as JSON
#   slow PARTITION ROW   says "read" once it has read the row, and waits for one more line before it goes on

import json
import os
import sys
from pathlib import Path

import redis
from azure.data.tables import TableServiceClient

from cache_aside import CacheAside


class Slow:
    """A table client whose replies are on their way until there is one more line."""

    def __init__(self, table):
        self.table, self.table_name = table, table.table_name

    def get_entity(self, *args, **kwargs):
        entity = self.table.get_entity(*args, **kwargs)
        print("read", flush=True)
        sys.stdin.readline()
        return entity


service = TableServiceClient.from_connection_string(os.environ["TABLES_CONNECTION"])
table = service.get_table_client(os.environ["TABLE"])
cache = redis.Redis.from_url(os.environ["REDIS_URL"])
script = Path("../../src/cache/refresh.lua").read_text()
readers = {"get": CacheAside(table, cache, script), "slow": CacheAside(Slow(table), cache, script)}
for line in iter(sys.stdin.readline, ""):
    kind, partition, row = json.loads(line)
    print(json.dumps(readers[kind].get(partition, row)), flush=True)
