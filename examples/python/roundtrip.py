"""Whether Microsoft's Python client reads in one region exactly what it wrote in another.

    python roundtrip.py write orders west        writes rows of every type through the writer, as region west
    python roundtrip.py check orders             reads them and compares values and types; waits until all are there
    python roundtrip.py change orders west       merges into, replaces and deletes them, some in one transaction
    python roundtrip.py check orders --changed   reads what that left
    python roundtrip.py check orders --wait 60

TABLES_CONNECTION is the connection string of the region's account. Exit code 1: they differ, and how.
"""

import argparse
import os
import sys
import time
import uuid
from datetime import datetime, timezone

from azure.core.exceptions import HttpResponseError
from azure.data.tables import EdmType, EntityProperty, TableServiceClient, UpdateMode

from tablerelay_writer import PROPERTY, Writer

PARTITION = "python's rows"
KEYS = ["it's", 'say "x"', "100 %", "a b+c", "日本", "😀", "", "a:b", "&=;,@$[]{}|^`<>~!*()", "ends with '"]
# Every type at its edges. Not -0.0: Azurite makes 0.0 of it as it stores it.
VALUES = {
    "Text": "a ünïcode 😀 text with 'quotes', \"more\", \\ and\nlines\t",
    "Empty": "",
    "LooksLikeNumber": "007",
    "LooksLikeTime": "2026-11-22T12:18:00Z",
    "Int32Least": -(2**31),
    "Int32Most": 2**31 - 1,
    "Int64Least": EntityProperty(-(2**63), EdmType.INT64),
    "Int64Most": EntityProperty(2**63 - 1, EdmType.INT64),
    "Int64Small": EntityProperty(7, EdmType.INT64),
    "True": True,
    "False": False,
    "Double": 0.1,
    "DoubleWhole": 1.0,
    "DoubleMost": 1.7976931348623157e308,
    "DoubleLeast": 5e-324,
    "DoubleNaN": float("nan"),
    "DoubleInfinity": float("inf"),
    "DoubleMinusInfinity": float("-inf"),
    "Time": datetime(2026, 11, 22, 12, 18, 0, 123456, timezone.utc),
    "TimeFirst": datetime(1601, 1, 1, tzinfo=timezone.utc),
    "TimeSevenDigits": EntityProperty("2026-11-22T12:18:00.1234567Z", EdmType.DATETIME),
    "Binary": bytes(range(256)),
    "BinaryEmpty": b"",
    "Guid": uuid.UUID("c9da6455-213d-42c9-9a79-3e9149a57833"),
}


def rows():
    """What stands there after `write`, by row key: what was inserted, merged, replaced, written in a transaction."""
    found = {key: {"PartitionKey": PARTITION, "RowKey": key, **VALUES} for key in KEYS}
    found["merged"] = {"PartitionKey": PARTITION, "RowKey": "merged", **VALUES, "More": "merged in"}
    found["replaced"] = {"PartitionKey": PARTITION, "RowKey": "replaced", "Double": 2.0}
    for key in ("one", "two"):
        found[key] = {"PartitionKey": PARTITION, "RowKey": key, **VALUES}
    return found


def changed():
    """What stands there after `change`. Every second odd key is gone, and so is one row of the transaction."""
    found = {key: row | {"Int32Most": 1, "More": key} for key, row in rows().items() if key in KEYS[::2]}
    found["merged"] = {"PartitionKey": PARTITION, "RowKey": "merged", "Text": "replaced"}
    found["replaced"] = {"PartitionKey": PARTITION, "RowKey": "replaced", **VALUES}
    found["two"] = rows()["two"] | {"More": "merged in"}
    found["three"] = {"PartitionKey": PARTITION, "RowKey": "three", **VALUES}
    return found


def write(service, table, region):
    service.create_table_if_not_exists("RelayFeed")
    service.create_table_if_not_exists(table)
    writer, final = Writer(service, region), rows()
    base = {"PartitionKey": PARTITION}
    for key in KEYS:
        writer.insert(table, final[key])
    writer.insert(table, {**base, "RowKey": "merged", **VALUES})
    writer.merge(table, {**base, "RowKey": "merged", "More": "merged in"})
    writer.upsert(table, {**base, "RowKey": "replaced", **VALUES})
    read = service.get_table_client(table).get_entity(PARTITION, "replaced")
    writer.replace(table, {**final["replaced"], PROPERTY: read[PROPERTY]}, etag=read.metadata["etag"])
    writer.insert(table, {**base, "RowKey": "deleted"})
    writer.delete(table, PARTITION, "deleted")
    writer.insert(table, {**base, "RowKey": "gone"})
    operations = [("create", final["one"]), ("upsert", final["two"]), ("delete", {**base, "RowKey": "gone"})]
    writer.transaction(table, operations)


def change(service, table, region):
    writer, base, final = Writer(service, region), {"PartitionKey": PARTITION}, changed()
    for key in KEYS:
        if key in final:
            writer.merge(table, {**base, "RowKey": key, "Int32Most": 1, "More": key})
        else:
            writer.delete(table, PARTITION, key)
    writer.upsert(table, final["merged"])
    writer.replace(table, final["replaced"])
    more = {**base, "RowKey": "two", "More": "merged in"}
    operations = [("delete", {**base, "RowKey": "one"}), ("update", more, {"mode": UpdateMode.MERGE})]
    writer.transaction(table, [*operations, ("create", final["three"])])


def plain(value):
    """A value with its type, told apart to the last digit: what was written and what is read come out alike."""
    if isinstance(value, EntityProperty) and value.edm_type == EdmType.INT64:
        return "Int64", int(value.value)
    if isinstance(value, EntityProperty):
        return "DateTime", value.value
    if isinstance(value, datetime):
        exact = getattr(value, "tables_service_value", None) or value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        # As many digits as it takes: servers differ in the zeros behind.
        return "DateTime", exact.rstrip("Z").rstrip("0").rstrip(".") + "Z"
    return type(value).__name__, repr(value)


def differences(service, table, expected):
    query = service.get_table_client(table).query_entities("PartitionKey eq @p", parameters={"p": PARTITION})
    try:
        found = {row["RowKey"]: row for row in query}
    except HttpResponseError as err:
        return [str(err)]
    missing, foreign = expected.keys() - found.keys(), found.keys() - expected.keys()
    differ = [f"{key!r} is missing" for key in sorted(missing)]
    differ += [f"{key!r} should not be there" for key in sorted(foreign)]
    for key in expected.keys() & found.keys():
        version = found[key].pop(PROPERTY, None)
        if version is None:
            differ.append(f"{key!r} has no {PROPERTY}")
        for name in sorted(expected[key].keys() | found[key].keys()):
            wanted, got = (plain(row[name]) if name in row else "nothing" for row in (expected[key], found[key]))
            if wanted != got:
                differ.append(f"{key!r}: {name} should be {wanted} and is {got}")
    return differ


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["write", "change", "check"])
    parser.add_argument("table")
    parser.add_argument("region", nargs="?")
    parser.add_argument("--changed", action="store_true", help="check what is there after `change`")
    parser.add_argument("--wait", type=float, default=30, help="seconds until all must be there")
    options = parser.parse_args()
    service = TableServiceClient.from_connection_string(os.environ["TABLES_CONNECTION"])
    if options.action != "check":
        if options.region is None:
            parser.error(f"{options.action} needs the region")
        return (write if options.action == "write" else change)(service, options.table, options.region)
    expected, deadline = changed() if options.changed else rows(), time.monotonic() + options.wait
    while (differ := differences(service, options.table, expected)) and time.monotonic() < deadline:
        time.sleep(0.2)
    print("\n".join(differ) or f"{len(expected)} rows are what they should be")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
