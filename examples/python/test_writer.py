"""The writer and the reader against a real table service and a real Redis.

TABLES_CONNECTION is the connection string of an Azurite, REDIS_URL the address of a Redis; both are written to.
"""

import json
import os
import time
import types
import unittest
import uuid
from pathlib import Path
from unittest import mock

import redis
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ServiceResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import EdmType, EntityProperty, TableServiceClient, UpdateMode

import tablerelay_writer as relay
from cache_aside import CacheAside, cache_key

CONNECTION, REDIS_URL = os.environ["TABLES_CONNECTION"], os.environ["REDIS_URL"]
SCRIPT = (Path(__file__).parents[2] / "src" / "cache" / "refresh.lua").read_text("utf-8")
ODD_KEYS = ["it's", 'say "x"', "100 %", "a b+c", "日本", "😀", "", "a:b", "ends with '"]


class Line(RequestsTransport):
    """Counts requests, and loses those that it is told to: (method, part of the URL, whether it is sent before).

    Others it makes slow: (method, part of the URL, what lets the time go by).
    """

    def __init__(self):
        super().__init__()
        self.lost, self.slow, self.sent = [], [], []

    def send(self, request, **options):
        self.sent.append((request.method, request.url))
        for fault in self.lost:
            method, part, reaches = fault
            if request.method == method and part in request.url:
                self.lost.remove(fault)
                if reaches:
                    super().send(request, **options)
                raise ServiceResponseError("the connection was reset")
        reply = super().send(request, **options)
        for delay in self.slow:
            method, part, goes_by = delay
            if request.method == method and part in request.url:
                self.slow.remove(delay)
                goes_by()
        return reply


class Tables(unittest.TestCase):
    def setUp(self):
        self.line = Line()
        self.service = TableServiceClient.from_connection_string(CONNECTION, transport=self.line, retry_backoff_factor=0.01)
        self.service.create_table_if_not_exists(relay.FEED)
        self.table = f"t{uuid.uuid4().hex[:12]}"
        self.rows = self.service.create_table(self.table)
        self.writer = relay.Writer(self.service, "west")
        self.addCleanup(self.service.delete_table, self.table)

    def feed(self, prefix):
        found = [row for row in self.writer.feed.list_entities() if row["Table"] == self.table]
        return sorted((row for row in found if row["RowKey"].startswith(prefix)), key=lambda row: row["RowKey"])

    def row(self, key="1", partition="p", **properties):
        return {"PartitionKey": partition, "RowKey": key, **properties}


class WriterCase(Tables):
    def test_a_put_is_announced_and_carries_its_version(self):
        written = self.writer.insert(self.table, self.row(Name="a"))
        found = self.rows.get_entity("p", "1")
        self.assertEqual((found["Name"], found[relay.PROPERTY]), ("a", written.version))
        [record] = self.feed("c:")
        self.assertEqual((record["RowKey"], json.loads(record["Puts"])), (f"c:{written.version}", ["1"]))
        self.assertEqual(record["PartitionKey"], relay.shard(self.table, "p"))

    def test_odd_keys_go_through_every_step(self):
        for key in ODD_KEYS:
            with self.subTest(key=key):
                for partition in {key, "p"}:
                    self.writer.upsert(self.table, self.row(key, partition))
                    self.writer.merge(self.table, self.row(key, partition, More=1))
                    self.assertEqual(self.rows.get_entity(partition, key)["More"], 1)
                    self.writer.delete(self.table, partition, key)
        self.assertEqual(list(self.rows.list_entities()), [])
        for key in ODD_KEYS:
            self.assertEqual(len(self.writer.tombstones(self.table, "p", [key])), 1, key)
        self.assertEqual(set(self.writer.tombstones(self.table, "p", ODD_KEYS)), set(ODD_KEYS))

    def test_a_refused_write_takes_its_record_back(self):
        first = self.writer.insert(self.table, self.row())
        with self.assertRaises(ResourceExistsError):
            self.writer.insert(self.table, self.row())
        with self.assertRaises(HttpResponseError) as refused:
            self.writer.replace(self.table, self.row(), etag='W/"other"')
        self.assertEqual(refused.exception.status_code, 412)
        self.assertEqual([record["Version"] for record in self.feed("c:")], [first.version])

    def test_a_read_row_is_replaced_by_a_higher_version_on_its_etag(self):
        ahead = self.version(seconds=30)
        self.rows.upsert_entity(self.row(**{relay.PROPERTY: ahead}))
        read = self.rows.get_entity("p", "1")
        written = self.writer.replace(self.table, read, etag=read.metadata["etag"])
        self.assertGreater(written.version, ahead)
        self.assertEqual(self.feed("c:")[0]["Base"], ahead)
        with self.assertRaisesRegex(relay.AheadOfClock, "'1'"):
            self.writer.upsert(self.table, self.row(), over=self.version(seconds=90))

    def version(self, seconds):
        clock = relay.Clock("north")
        return relay.Clock("north", now=lambda: clock.now() + seconds * relay.TICKS).issue()

    def test_a_delete_raises_its_tombstone_and_never_lowers_it(self):
        self.writer.insert(self.table, self.row())
        self.writer.delete(self.table, "p", "1")
        again = self.writer.delete(self.table, "p", "1")
        [stone] = self.feed("t:")
        self.assertEqual((stone["Version"], stone["Row"]), (again.version, "1"))
        ahead = self.version(seconds=40)
        self.writer.feed.upsert_entity(relay.tombstone(self.table, "p", "1", ahead))
        made = self.writer.insert(self.table, self.row())
        self.assertGreater(made.version, ahead)
        self.assertGreater(self.writer.delete(self.table, "p", "1").version, made.version)
        self.writer.feed.upsert_entity(relay.tombstone(self.table, "p", "1", self.version(seconds=90)))
        with self.assertRaises(relay.AheadOfClock):
            self.writer.delete(self.table, "p", "1")

    def test_a_tombstone_that_others_raise_meanwhile_is_raised_above_theirs(self):
        self.writer.delete(self.table, "p", "1")
        look, theirs = self.writer.tombstones, [self.version(seconds=n) for n in (20, 30)]
        coming = list(theirs)

        def overtaken(*args):
            found = look(*args)
            if coming and found:
                self.writer.feed.upsert_entity(relay.tombstone(self.table, "p", "1", coming.pop(0)))
            return found

        self.writer.tombstones = overtaken
        written = self.writer.delete(self.table, "p", "1")
        self.assertEqual((coming, self.feed("t:")[0]["Version"]), ([], written.version))
        self.assertGreater(written.version, theirs[-1])

    def test_a_transaction_is_announced_as_one(self):
        self.writer.insert(self.table, self.row("old"))
        operations = [
            ("create", self.row("a")),
            ("upsert", self.row("b"), {"mode": UpdateMode.MERGE}),
            ("delete", self.row("old")),
        ]
        written = self.writer.transaction(self.table, operations)
        record = self.feed("c:")[-1]
        self.assertEqual((json.loads(record["Puts"]), json.loads(record["Deletes"])), (["a", "b"], ["old"]))
        self.assertEqual({row[relay.PROPERTY] for row in self.rows.list_entities()}, {written.version})
        with self.assertRaises(HttpResponseError) as refused:
            self.writer.transaction(self.table, operations)
        self.assertEqual((refused.exception.status_code, len(self.feed("c:"))), (409, 2))

    def test_a_hundred_deletes_take_two_records(self):
        keys = [f"r{n:03}" for n in range(100)]
        self.writer.transaction(self.table, [("create", self.row(key)) for key in keys])
        for _ in range(2):
            self.writer.transaction(self.table, [("upsert", self.row(key)) for key in keys])
            written = self.writer.transaction(self.table, [("delete", self.row(key)) for key in keys])
        sizes = [len(json.loads(row["Deletes"])) for row in self.feed(f"c:{written.version}")]
        self.assertEqual(sizes, [99, 1])
        self.assertEqual({stone["Version"] for stone in self.feed("t:")}, {written.version})
        self.assertEqual(list(self.rows.list_entities()), [])

    def test_a_lost_reply_is_read_back_and_the_write_is_sent_once(self):
        self.line.lost = [("POST", self.table, True)]
        written = self.writer.insert(self.table, self.row())
        self.assertEqual(self.rows.get_entity("p", "1")[relay.PROPERTY], written.version)
        self.assertEqual(sum(method == "POST" and self.table in url for method, url in self.line.sent), 1)
        self.line.lost = [("DELETE", self.table, True)]
        self.writer.delete(self.table, "p", "1")
        self.line.lost = [("POST", "$batch", True)]
        self.writer.transaction(self.table, [("create", self.row("a")), ("create", self.row("b"))])
        self.assertEqual(len(self.feed("c:")), 3)

    def test_a_lost_request_is_unknown_and_stays_announced(self):
        for method, write in (("POST", self.writer.insert), ("PUT", self.writer.upsert)):
            self.line.lost, self.line.sent = [(method, self.table, False)], []
            with self.assertRaises(relay.UnknownOutcome) as unknown:
                write(self.table, self.row())
            self.assertEqual(self.feed("c:")[-1]["Version"], unknown.exception.version)
            self.assertEqual(sum(verb == method and self.table in url for verb, url in self.line.sent), 1)

    def test_a_lost_reply_to_an_announcement_leaves_one_record(self):
        for reaches in (True, False):
            self.line.lost = [("POST", relay.FEED, reaches)]
            self.writer.upsert(self.table, self.row())
        self.line.lost = [("POST", "$batch", True)]
        written = self.writer.delete(self.table, "p", "1")
        self.assertEqual(len(self.feed("c:")), 3)
        self.assertEqual(self.feed("t:")[0]["Version"], written.version)

    def test_half_the_settle_window_is_kept(self):
        clock = types.SimpleNamespace(time_ns=time.time_ns, now=0.0)
        clock.monotonic = lambda: clock.now
        with mock.patch.object(relay, "time", clock):
            self.line.slow = [("POST", relay.FEED, lambda: setattr(clock, "now", clock.now + 31))]
            again = self.writer.insert(self.table, self.row("1"))
            begun = [record["Version"] for record in self.feed("c:")]
            self.assertEqual((len(begun), begun[1]), (2, again.version), "late before the write: begun again")
            self.line.slow = [("POST", self.table, lambda: setattr(clock, "now", clock.now + 31))]
            late = self.writer.insert(self.table, self.row("2"))
            announced = [record["RowKey"] for record in self.feed("c:")[2:]]
            self.assertEqual(announced, [f"c:{late.version}", f"c:{late.version}~1"], "late after it: announced again")


class ReaderCase(Tables):
    def setUp(self):
        super().setUp()
        self.cache = redis.Redis.from_url(REDIS_URL)
        self.addCleanup(self.cache.close)
        self.reader = CacheAside(self.rows, self.cache, SCRIPT)

    def test_a_miss_is_filled_with_the_row_as_it_stands(self):
        number = EntityProperty(2**60, EdmType.INT64)
        written = self.writer.insert(self.table, self.row("it's", N=number, D=1.0, S="ü", B=b"\x00"))
        found = self.reader.get("p", "it's")
        self.assertEqual(list(found)[:3], ["PartitionKey", "RowKey", relay.PROPERTY])
        self.assertEqual((found["N"], found["N@odata.type"], found["S"]), (str(2**60), "Edm.Int64", "ü"))
        self.assertNotIn("Timestamp", found)
        held = self.cache.hgetall(cache_key(self.table, "p", "it's"))
        self.assertEqual((held[b"v"].decode(), json.loads(held[b"e"])), (written.version, found))
        self.rows.delete_entity("p", "it's")
        self.assertEqual(self.reader.get("p", "it's"), found, "it came from the cache")
        self.assertIsNone(self.reader.get("p", "missing"))

    def test_a_slow_reader_does_not_put_an_old_row_back(self):
        self.writer.insert(self.table, self.row(N=1))
        old = self.reader._read("p", "1")
        key = cache_key(self.table, "p", "1")
        newer = self.writer.merge(self.table, self.row(N=2))
        self.reader.refresh(keys=[key], args=["write-through", newer.version, 0, ""])
        self.reader._read = lambda *_: old
        self.assertEqual(self.reader.get("p", "1")["N"], 1)
        self.assertEqual(self.cache.hgetall(key), {b"v": newer.version.encode()}, "the mark of the deleted row stays")


if __name__ == "__main__":
    unittest.main()
