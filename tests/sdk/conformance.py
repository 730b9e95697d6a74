"""What Microsoft's Python client finds at a server of the Table REST API: the same on Azurite and on the memory store.

    python -m unittest conformance.py

TABLES_CONNECTION is the account's connection string, with its key.
"""

import os
import unittest
import uuid
from datetime import datetime, timedelta, timezone

from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.data.tables import (
    AccountSasPermissions,
    EdmType,
    EntityProperty,
    ResourceTypes,
    TableSasPermissions,
    TableServiceClient,
    TableTransactionError,
    UpdateMode,
    generate_account_sas,
    generate_table_sas,
)

CONNECTION = os.environ["TABLES_CONNECTION"]
SETTINGS = dict(part.split("=", 1) for part in CONNECTION.split(";") if part)
# No retries: what the server says first is what counts.
OPTIONS = {"retry_total": 0, "retry_connect": 0, "retry_read": 0, "retry_status": 0}
KEYS = ["it's", 'say "x"', "100 %", "%27", "a b+c", "日本", "😀", "", "a:b", "&=;,@$[]{}|^`<>~!*()", "ends with '", ".."]
VALUES = {
    "Text": "a ünïcode 😀 text with 'quotes', \"more\", \\ and\nlines\t",
    "Empty": "",
    "LooksLikeTime": "2026-11-22T12:18:00Z",
    "Int32Least": -(2**31),
    "Int32Most": 2**31 - 1,
    "Int64Least": EntityProperty(-(2**63), EdmType.INT64),
    "Int64Most": EntityProperty(2**63 - 1, EdmType.INT64),
    "Yes": True,
    "No": False,
    "Double": 0.1,
    "DoubleWhole": 1.0,
    "DoubleMost": 1.7976931348623157e308,
    "DoubleNaN": float("nan"),
    "DoubleInfinity": float("inf"),
    "DoubleMinusInfinity": float("-inf"),
    "Time": datetime(2026, 11, 22, 12, 18, 0, 123456, timezone.utc),
    "TimeSevenDigits": EntityProperty("2026-11-22T12:18:00.1234567Z", EdmType.DATETIME),
    "Binary": bytes(range(256)),
    "BinaryEmpty": b"",
    "Guid": uuid.UUID("c9da6455-213d-42c9-9a79-3e9149a57833"),
}


def service(**options):
    return TableServiceClient.from_connection_string(CONNECTION, **OPTIONS, **options)


def row(partition, key, **properties):
    return {"PartitionKey": partition, "RowKey": key, **properties}


def plain(value):
    """A value with its type, so that two texts of one value are equal and two types never are."""
    if isinstance(value, EntityProperty) and value.edm_type == EdmType.INT64:
        return "Int64", int(value.value)
    if isinstance(value, EntityProperty):
        return "DateTime", value.value.rstrip("Z").rstrip("0")
    if isinstance(value, datetime):
        exact = getattr(value, "tables_service_value", None) or value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return "DateTime", exact.rstrip("Z").rstrip("0")
    return type(value).__name__, repr(value)


class Conformance(unittest.TestCase):
    def setUp(self):
        self.service = service()
        self.name = "t" + uuid.uuid4().hex
        self.table = self.service.create_table(self.name)

    def same(self, found, expected):
        for name in expected:
            self.assertEqual(plain(found[name]), plain(expected[name]), name)
        self.assertEqual(set(found), set(expected))

    def kept_out(self, act):
        """Servers differ in the code that they give, not in the status."""
        with self.assertRaises(HttpResponseError) as failed:
            act()
        self.assertEqual(failed.exception.status_code, 403)

    def keys(self, filter, **options):
        return [found["RowKey"] for found in self.table.query_entities(filter, **options)]

    def test_a_table_is_created_once_listed_and_deleted(self):
        with self.assertRaises(ResourceExistsError) as failed:
            self.service.create_table(self.name)
        self.assertEqual(failed.exception.error_code, "TableAlreadyExists")
        self.service.create_table_if_not_exists(self.name)
        self.assertIn(self.name, [table.name for table in self.service.list_tables()])
        named = self.service.query_tables("TableName eq @name", parameters={"name": self.name})
        self.assertEqual([table.name for table in named], [self.name])
        self.service.delete_table(self.name)
        self.assertNotIn(self.name, [table.name for table in self.service.list_tables()])
        with self.assertRaises(ResourceNotFoundError) as failed:
            self.table.get_entity("p", "r")
        self.assertEqual(failed.exception.error_code, "TableNotFound")

    def test_tables_are_listed_in_pages(self):
        names = sorted("p" + uuid.uuid4().hex for _ in range(5))
        for name in names:
            self.service.create_table(name)
        pages = self.service.query_tables("TableName ge 'p' and TableName lt 'q'", results_per_page=2).by_page()
        found = [[table.name for table in page] for page in pages]
        self.assertEqual([name for page in found for name in page if name in names], names)
        self.assertTrue(all(len(page) <= 2 for page in found))

    def test_every_type_comes_back_exactly_by_every_write(self):
        self.table.create_entity(row("p", "insert", **VALUES))
        self.table.upsert_entity(row("p", "replace", **VALUES), mode=UpdateMode.REPLACE)
        self.table.upsert_entity(row("p", "merge", **VALUES), mode=UpdateMode.MERGE)
        self.table.submit_transaction([("create", row("p", "transaction", **VALUES))])
        for key in ("insert", "replace", "merge", "transaction"):
            self.same(self.table.get_entity("p", key), row("p", key, **VALUES))
        for found in self.table.query_entities("PartitionKey eq 'p'"):
            self.same(found, row("p", found["RowKey"], **VALUES))

    def test_odd_keys_name_their_rows_and_no_others(self):
        for key in KEYS:
            self.table.create_entity(row(key, key, Text=key))
        for key in KEYS:
            self.assertEqual(self.table.get_entity(key, key)["Text"], key)
            found = self.table.query_entities("PartitionKey eq @k and RowKey eq @k", parameters={"k": key})
            self.assertEqual([one["Text"] for one in found], [key])
            self.table.update_entity(row(key, key, More=1), mode=UpdateMode.MERGE)
            self.table.submit_transaction([("update", row(key, key, More=2), {"mode": UpdateMode.MERGE})])
            self.same(self.table.get_entity(key, key), row(key, key, Text=key, More=2))
            self.table.delete_entity(key, key)
        self.assertEqual(list(self.table.list_entities()), [])

    def test_each_write_does_what_its_name_says(self):
        self.table.create_entity(row("p", "r", A=1, B=2))
        with self.assertRaises(ResourceExistsError) as failed:
            self.table.create_entity(row("p", "r"))
        self.assertIn("EntityAlreadyExists", str(failed.exception))
        self.table.update_entity(row("p", "r", B=3), mode=UpdateMode.MERGE)
        self.same(self.table.get_entity("p", "r"), row("p", "r", A=1, B=3))
        self.table.update_entity(row("p", "r", C=4), mode=UpdateMode.REPLACE)
        self.same(self.table.get_entity("p", "r"), row("p", "r", C=4))
        self.table.upsert_entity(row("p", "r", D=5), mode=UpdateMode.MERGE)
        self.same(self.table.get_entity("p", "r"), row("p", "r", C=4, D=5))
        self.table.upsert_entity(row("p", "r", E=6), mode=UpdateMode.REPLACE)
        self.same(self.table.get_entity("p", "r"), row("p", "r", E=6))
        self.table.delete_entity("p", "r")
        for mode in (UpdateMode.MERGE, UpdateMode.REPLACE):
            with self.assertRaises(ResourceNotFoundError):
                self.table.update_entity(row("p", "r"), mode=mode)
        with self.assertRaises(ResourceNotFoundError) as failed:
            self.table.get_entity("p", "r")
        self.assertEqual(failed.exception.error_code, "ResourceNotFound")

    def test_a_condition_holds_or_is_refused(self):
        stale = self.table.create_entity(row("p", "r", A=1))["etag"]
        matches = {"etag": stale, "match_condition": MatchConditions.IfNotModified}
        fresh = self.table.update_entity(row("p", "r", A=2), mode=UpdateMode.REPLACE, **matches)["etag"]
        self.assertNotEqual(stale, fresh)
        for mode in (UpdateMode.MERGE, UpdateMode.REPLACE):
            with self.assertRaises(ResourceModifiedError) as failed:
                self.table.update_entity(row("p", "r", A=3), mode=mode, **matches)
            self.assertEqual(failed.exception.error_code, "UpdateConditionNotSatisfied")
        with self.assertRaises(ResourceModifiedError):
            self.table.delete_entity("p", "r", **matches)
        found = self.table.get_entity("p", "r")
        self.assertEqual((found["A"], found.metadata["etag"]), (2, fresh))
        self.table.delete_entity("p", "r", etag=fresh, match_condition=MatchConditions.IfNotModified)

    def test_the_timestamp_is_the_servers(self):
        before = datetime.now(timezone.utc) - timedelta(seconds=5)
        self.table.create_entity(row("p", "r"))
        stamp = self.table.get_entity("p", "r").metadata["timestamp"]
        self.assertTrue(before < stamp < before + timedelta(seconds=60), stamp)

    def test_filters_find_values_of_every_type(self):
        self.table.create_entity(row("p", "1", **VALUES))
        self.table.create_entity(row("p", "2", Other=1))
        for filter, value in [
            ("Text eq @v", VALUES["Text"]),
            ("Empty eq @v", ""),
            ("Int32Least eq @v", -(2**31)),
            ("Int64Most eq @v", 2**63 - 1),
            ("Yes eq @v", True),
            ("No eq @v", False),
            ("Double eq @v", 0.1),
            ("Double lt @v", 0.2),
            ("Time eq @v", VALUES["Time"]),
            ("Binary eq @v", VALUES["Binary"]),
            ("Guid eq @v", VALUES["Guid"]),
            ("Guid eq @v and Int32Most gt 5 and not (Int32Most lt 5)", VALUES["Guid"]),
            ("(Empty eq 'x' or Text eq @v ) and PartitionKey eq 'p'", VALUES["Text"]),
        ]:
            with self.subTest(filter):
                self.assertEqual(self.keys(filter, parameters={"v": value}), ["1"])
        self.assertEqual(self.keys("Other eq 1 or Int32Most eq 2147483647"), ["1", "2"])
        with self.assertRaises(HttpResponseError) as failed:
            self.keys("Other eq")
        self.assertEqual(failed.exception.status_code, 400)

    def test_ranges_are_ordered_by_key_and_paged(self):
        rows = [("create", row("p", f"{n:03}", N=n)) for n in range(95)]
        self.table.submit_transaction(rows)
        self.table.create_entity(row("q", "000", N=0))
        self.assertEqual(self.keys("PartitionKey eq 'p' and RowKey ge '010' and RowKey lt '012'"), ["010", "011"])
        for filter, count in [("PartitionKey eq 'p'", 95), ("N ge 90", 5), ("", 96)]:
            pages = self.table.query_entities(filter, results_per_page=10).by_page()
            found = [[one["RowKey"] for one in page] for page in pages]
            keys = [key for page in found for key in page]
            self.assertEqual(len(keys), count)
            self.assertEqual(keys[:90], sorted(keys[:90]))
            self.assertTrue(all(len(page) <= 10 for page in found), found)
        first = self.table.query_entities("PartitionKey eq 'p'", results_per_page=40).by_page()
        self.assertEqual(len(list(next(first))), 40)
        rest = self.table.query_entities("PartitionKey eq 'p'", results_per_page=40)
        rest = rest.by_page(continuation_token=first.continuation_token)
        self.assertEqual([len(list(page)) for page in rest], [40, 15])

    def test_a_selection_has_what_was_named(self):
        self.table.create_entity(row("p", "r", A=1, B="b"))
        (found,) = self.table.query_entities("B eq 'b'", select=["A", "RowKey"])
        self.assertEqual((found["A"], found["RowKey"], "B" in found), (1, "r", False))
        self.assertEqual(self.table.get_entity("p", "r", select=["B"])["B"], "b")

    def test_a_transaction_is_all_or_nothing_and_names_what_failed(self):
        self.table.create_entity(row("p", "there", A=1))
        done = self.table.submit_transaction(
            [
                ("create", row("p", "new", A=1)),
                ("update", row("p", "there", B=2), {"mode": UpdateMode.MERGE}),
                ("upsert", row("p", "upserted", C=3), {"mode": UpdateMode.REPLACE}),
                ("upsert", row("p", "gone", D=4)),
            ]
        )
        self.assertEqual(done[0]["etag"], self.table.get_entity("p", "new").metadata["etag"])
        self.table.submit_transaction([("delete", row("p", "gone")), ("update", row("p", "new", E=5))])
        self.same(self.table.get_entity("p", "there"), row("p", "there", A=1, B=2))
        self.assertEqual(self.keys("PartitionKey eq 'p'"), ["new", "there", "upserted"])
        stale = {"etag": "W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\"", "match_condition": MatchConditions.IfNotModified}
        for fault, code in [
            (("create", row("p", "there")), "EntityAlreadyExists"),
            (("update", row("p", "missing"), {"mode": UpdateMode.REPLACE}), "ResourceNotFound"),
            (("update", row("p", "there"), {"mode": UpdateMode.REPLACE, **stale}), "UpdateConditionNotSatisfied"),
            (("delete", row("p", "there"), stale), "UpdateConditionNotSatisfied"),
        ]:
            operations = [("create", row("p", "1")), ("create", row("p", "2")), fault, ("create", row("p", "3"))]
            with self.assertRaises(TableTransactionError) as failed:
                self.table.submit_transaction(operations)
            self.assertEqual((failed.exception.index, failed.exception.error_code), (2, code))
            self.assertEqual(self.keys("PartitionKey eq 'p'"), ["new", "there", "upserted"])

    def test_who_has_not_the_key_is_kept_out(self):
        endpoint = SETTINGS["TableEndpoint"]
        credential = AzureNamedKeyCredential(SETTINGS["AccountName"], "d3Jvbmc=")
        with TableServiceClient(endpoint, credential=credential, **OPTIONS) as stranger:
            self.kept_out(lambda: list(stranger.list_tables()))

    def test_a_signature_grants_what_it_says_and_no_longer_than_it_says(self):
        endpoint = SETTINGS["TableEndpoint"]
        key = AzureNamedKeyCredential(SETTINGS["AccountName"], SETTINGS["AccountKey"])
        soon, past = (datetime.now(timezone.utc) + timedelta(hours=hours) for hours in (1, -1))
        of_account = [ResourceTypes(service=True, container=True, object=True)]
        of_account += [AccountSasPermissions(read=True, add=True, list=True, update=True, delete=True)]
        self.table.create_entity(row("p", "r", A=1))
        for signature, granted in [
            (generate_account_sas(key, *of_account, soon), True),
            (generate_account_sas(key, *of_account, past), False),
            (generate_table_sas(key, self.name, permission=TableSasPermissions(read=True), expiry=soon), True),
            (generate_table_sas(key, self.name, permission=TableSasPermissions(add=True), expiry=soon), False),
        ]:
            credential = AzureSasCredential(signature)
            with TableServiceClient(endpoint, credential=credential, **OPTIONS).get_table_client(self.name) as table:
                if granted:
                    self.assertEqual(table.get_entity("p", "r")["A"], 1)
                else:
                    self.kept_out(lambda: table.get_entity("p", "r"))


if __name__ == "__main__":
    unittest.main()
