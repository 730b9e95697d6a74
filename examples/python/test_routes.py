"""Reading and writing where routes lead, against a real table service.

TABLES_CONNECTION is the connection string of an Azurite. What stands for other accounts are tables of other names in the same one.
"""

import json
import os
import time
import types
import unittest
import uuid
from unittest import mock

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import TableServiceClient

import tablerelay_writer as relay
from routes import RoutedRegion, RoutesAreOld


class Account:
    """A TableServiceClient whose tables are others than those of the same name elsewhere."""

    def __init__(self, service, name):
        self.service, self.name = service, name

    def get_table_client(self, table):
        return self.service.get_table_client(self.name + table)


class RoutedTables(unittest.TestCase):
    def setUp(self):
        service = TableServiceClient.from_connection_string(os.environ["TABLES_CONNECTION"])
        mark = "t" + uuid.uuid4().hex[:12]
        self.accounts = {name: Account(service, f"{mark}{name}") for name in ("west1", "westarchive", "gone")}
        for account in self.accounts.values():
            for table in ("RelayFeed", "RelayControl", "orders"):
                service.create_table_if_not_exists(account.name + table)
        self.publish("west1", 2, ["west1"])
        self.publish("gone", 1, ["gone"])
        self.west = RoutedRegion(self.accounts["west1"], lambda account, endpoint: self.accounts[account])
        self.home, self.archive = (self.accounts[name].get_table_client("orders") for name in ("west1", "westarchive"))

    def publish(self, account, epoch, spread):
        routes = {"schema": 1, "region": "west", "epoch": epoch, "home": "west1", "hold_seconds": 60, "endpoints": {}}
        aged = [{"name": "old", "date": "Placed", "older_than_seconds": 60, "accounts": ["westarchive"]}]
        text = json.dumps(routes | {"routes": [], "spread": spread, "aged": aged})
        row = {"PartitionKey": "routes", "RowKey": "current", "Routes": text}
        self.accounts[account].get_table_client("RelayControl").upsert_entity(row)

    def order(self, **properties):
        return {"PartitionKey": "customer-1", "RowKey": "1"} | properties

    def put_cold(self):
        version = "2026-01-01T00:00:00.0000000Z@west.00000001"
        self.archive.create_entity(self.order(Total=5, Note="first", RelayVersion=version))
        return version

    def test_what_is_cold_is_found_and_is_no_news(self):
        self.put_cold()
        self.assertEqual(self.west.read("orders", "customer-1", "1")["Total"], 5)
        with self.assertRaises(ResourceExistsError):
            self.west.insert("orders", self.order(Total=6))
        self.assertEqual(list(self.home.list_entities()), [])
        self.west.insert("orders", self.order(Total=6) | {"RowKey": "2"})
        self.assertEqual(self.home.get_entity("customer-1", "2")["Total"], 6)

    def test_a_merge_meets_the_row_wherever_it_is(self):
        self.west.upsert_merge("orders", self.order(Total=1))
        self.west.upsert_merge("orders", self.order(Note="more"))
        found = self.home.get_entity("customer-1", "1")
        self.assertEqual((found["Total"], found["Note"]), (1, "more"))
        self.home.delete_entity("customer-1", "1")
        version = self.put_cold()
        self.west.upsert_merge("orders", self.order(Total=6))
        found = self.home.get_entity("customer-1", "1")
        self.assertEqual((found["Total"], found["Note"]), (6, "first"))
        self.assertGreater(found["RelayVersion"], version)

    def test_what_was_read_is_replaced_wherever_it_was(self):
        with self.assertRaises(ResourceNotFoundError):
            self.west.replace("orders", self.order(Total=1))
        self.put_cold()
        row = self.west.read("orders", "customer-1", "1")
        self.west.replace("orders", row | {"Total": 6}, row.metadata["etag"])
        found = self.home.get_entity("customer-1", "1")
        self.assertEqual((found["Total"], found["Note"]), (6, "first"))
        self.assertGreater(found["RelayVersion"], row["RelayVersion"])
        with self.assertRaises(ResourceModifiedError):
            self.west.replace("orders", row | {"Total": 7}, row.metadata["etag"])
        self.west.replace("orders", found | {"Total": 8}, found.metadata["etag"])
        self.assertEqual(self.home.get_entity("customer-1", "1")["Total"], 8)

    def test_a_merge_meets_a_row_that_leaves_its_home_just_then(self):
        self.west.upsert_merge("orders", self.order(Total=1, Note="first"))
        merge = relay.Writer.merge

        def demoted_before(writer, *arguments, **options):
            row = self.home.get_entity("customer-1", "1")
            self.archive.create_entity(dict(row))
            self.home.delete_entity(row)
            return merge(writer, *arguments, **options)

        with mock.patch.object(relay.Writer, "merge", demoted_before):
            self.west.upsert_merge("orders", self.order(Total=2))
        found = self.home.get_entity("customer-1", "1")
        self.assertEqual((found["Total"], found["Note"]), (2, "first"))

    def test_the_first_account_counts_whichever_is_known(self):
        west = RoutedRegion(self.accounts["gone"], lambda account, endpoint: self.accounts[account])
        self.assertEqual(west.routes().document["epoch"], 2)
        self.assertIs(west.service("orders", "customer-1"), self.accounts["west1"])

    def test_by_routes_that_are_old_one_may_write_and_takes_no_row_for_absent(self):
        self.assertIsNone(self.west.read("orders", "customer-1", "1"))
        away = types.SimpleNamespace(get_table_client=mock.Mock(side_effect=HttpResponseError("away")))
        with mock.patch("routes.time.monotonic", return_value=time.monotonic() + 61):
            self.west.services["west1"] = away
            with self.assertRaises(RoutesAreOld):
                self.west.read("orders", "customer-1", "1")
            away.get_table_client.assert_called_once()
            self.west.services["west1"] = self.accounts["west1"]
            self.west.writer("orders", "customer-1").upsert("orders", self.order(Total=1))
        self.assertEqual(self.home.get_entity("customer-1", "1")["Total"], 1)


if __name__ == "__main__":
    unittest.main()
