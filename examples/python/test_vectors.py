"""The writer's functions against the protocol's vectors, which every implementation is checked by."""

import json
import unittest
from pathlib import Path

import cache_aside
import routes
import tablerelay_writer as relay

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "protocol.json").read_text("utf-8"))


def readable(row):
    return {name: json.loads(value) if name in ("Puts", "Deletes") else value for name, value in row.items()}


class Vectors(unittest.TestCase):
    def test_versions_sort_as_their_bytes(self):
        ascending = VECTORS["version_order"]["ascending"]
        self.assertEqual(sorted(ascending), ascending)
        self.assertEqual(relay.highest([(version, "") for version in ascending])[0], ascending[-1])

    def test_versions_are_told_from_other_texts(self):
        for text in VECTORS["version"]["valid"]:
            self.assertTrue(relay.is_version(text), text)
        for case in VECTORS["version"]["invalid"]:
            self.assertFalse(relay.is_version(case["text"]), case)

    def test_the_clock_issues_above_what_it_knows(self):
        section = VECTORS["clock"]
        ticks = lambda time: relay.ticks_of(f"{time}@a.00000000")
        for case in section["cases"]:
            now = ticks(case["now"])
            clock = relay.Clock(section["region"], section["skew_seconds"], section["writer"], lambda: now)
            clock.last = ticks(case["last"]) if case["last"] else 0
            if case["issued"] is None:
                with self.assertRaisesRegex(relay.AheadOfClock, "'row 1'"):
                    clock.issue(case["over"], "row 1")
            else:
                self.assertEqual(clock.issue(case["over"]), case["issued"], case)

    def test_shards_tombstones_and_cache_keys_are_named_alike(self):
        for case in VECTORS["shard"]:
            self.assertEqual(relay.shard(case["table"], case["partition"]), case["shard"], case)
        for case in VECTORS["tombstone_key"]:
            self.assertEqual(relay.tombstone_key(case["table"], case["partition"], case["row"]), case["key"], case)
        for case in VECTORS["cache_key"]:
            self.assertEqual(cache_aside.cache_key(case["table"], case["partition"], case["row"]), case["key"], case)

    def test_records_and_tombstones_are_written_alike(self):
        for case in VECTORS["record"]:
            change = case["change"]
            where = (change["table"], change["partition"])
            found = relay.records(*where, change["puts"], change["deletes"], change["version"], change["base"])
            self.assertEqual([readable(record) for record, _ in found], [readable(row) for row in case["records"]])
            stones = [relay.tombstone(*where, row, change["version"]) for _, rows in found for row in rows]
            self.assertEqual(stones, case["tombstones"])

    def test_a_list_takes_30_000_utf_16_units(self):
        version = VECTORS["version"]["valid"][0]
        for key, fit in (("é" * 1022, 29), ("😀" * 511, 29)):
            keys = [f"{n:02}{key}" for n in range(31)]
            parts = [json.loads(record["Puts"]) for record, _ in relay.records("orders", "p", keys, [], version)]
            self.assertEqual([len(part) for part in parts], [fit, 31 - fit])
            self.assertEqual(sum(parts, []), keys)

    def test_routes_lead_to_the_same_accounts(self):
        published = routes.Routes(VECTORS["routes"]["document"])
        for case in VECTORS["routes"]["cases"]:
            found = routes.place(published.document, case["table"], case["partition"])
            self.assertEqual(found, (case["account"], case["route"]), case)
            self.assertEqual(published.others(case["table"], case["partition"]), case["others"], case)
        with self.assertRaisesRegex(ValueError, "schema 2"):
            routes.Routes(VECTORS["routes"]["document"].replace('"schema":1', '"schema":2'))

    def test_messages_say_the_same(self):
        case = VECTORS["message"][0]
        change = dict(case["change"])
        del change["base"]
        self.assertEqual(json.loads(relay.queue_message(**change)), json.loads(case["text"]))


if __name__ == "__main__":
    unittest.main()
