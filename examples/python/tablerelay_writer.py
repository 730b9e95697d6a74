"""Writes to Azure Table Storage so that tablerelay replicates it: announce first, then write.

Copy this file into the application; it needs azure-data-tables alone. It follows part 3 of the change-feed protocol.

    service = TableServiceClient.from_connection_string(...)
    writer = Writer(service, region="westeurope")      # one per process; threads may share it
    writer.upsert("orders", {"PartitionKey": "customer-17", "RowKey": "1", "Total": 12.5})
    row = service.get_table_client("orders").get_entity("customer-17", "1")
    row["Total"] = 13.0
    writer.replace("orders", row, etag=row.metadata["etag"])
    writer.delete("orders", "customer-17", "1")

Errors of the SDK pass through, so a 409 or 412 is caught as ever. The others are UnknownOutcome, AheadOfClock, Contended.
"""

import hashlib
import json
import os
import re
import secrets
import threading
import time
from datetime import datetime, timedelta
from typing import NamedTuple

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.data.tables import UpdateMode

FEED = "RelayFeed"
PROPERTY = "RelayVersion"
MAX_ROWS, MAX_DELETES, MAX_UNITS = 100, 99, 30_000
ATTEMPTS = 8
TICKS = 10_000_000
EPOCH = datetime(1970, 1, 1)
VERSION = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\.([0-9]{7})Z@[a-z0-9-]{1,24}\.[0-9a-f]{8}"
)


class UnknownOutcome(Exception):
    """The write was not seen when it was read back, but may still take effect; it is announced in any case."""

    def __init__(self, version):
        super().__init__(f"the outcome of the write with version {version} is unknown")
        self.version = version


class AheadOfClock(Exception):
    """A row has a version further ahead of this clock than the allowed skew: check both clocks."""


class Contended(Exception):
    """The store was too slow for half the settle window, or others deleted the same rows over and over."""


class TombstoneStands(Exception):
    """A tombstone is there that was not known: take a version above it."""


class Written(NamedTuple):
    version: str
    replies: list  # what the SDK returned, an item per operation; empty where the outcome was read back


# Versions


def ticks_of(version):
    """The time of a version in ticks of 100 ns since 1970, or None where the text is no version."""
    match = VERSION.fullmatch(version) if isinstance(version, str) else None
    try:
        seconds = (datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S") - EPOCH) // timedelta(seconds=1)
    except (TypeError, ValueError):
        return None
    # strptime lets the 61st second pass, which no clock of Azure's has.
    return None if match[1].endswith(("60", "61")) else seconds * TICKS + int(match[2])


def is_version(text):
    return ticks_of(text) is not None


def highest(pairs):
    """The highest version, by its bytes, among pairs of a version and the row that has it; what is none does not count."""
    return max((pair for pair in pairs if is_version(pair[0])), default=(None, None))


class Clock:
    """A hybrid clock: versions rise with the time, with each other, and above what is overwritten."""

    def __init__(self, region, max_clock_skew=60.0, writer=None, now=lambda: time.time_ns() // 100):
        if not re.fullmatch(r"[a-z0-9-]{1,24}", region):
            raise ValueError(f"{region!r} is no region: it should be 1 to 24 characters of a-z, 0-9 and -")
        self.region, self.skew, self.now = region, int(max_clock_skew * TICKS), now
        self.writer, self.process = writer or secrets.token_hex(4), os.getpid()
        self.last, self.lock = 0, threading.Lock()

    def issue(self, over=None, row=None):
        with self.lock:
            if self.process != os.getpid():  # after a fork the id would not be this process's alone
                self.writer, self.process = secrets.token_hex(4), os.getpid()
            now, floor = self.now(), ticks_of(over)
            if floor is not None and floor > now + self.skew:
                raise AheadOfClock(f"row {row!r} has version {over}, {(floor - now) // 10_000} ms ahead of this clock")
            self.last = max(now, self.last + 1, -1 if floor is None else floor + 1)
            seconds, ticks = divmod(self.last, TICKS)
        return f"{(EPOCH + timedelta(seconds=seconds)).isoformat()}.{ticks:07}Z@{self.region}.{self.writer}"


# The feed: records and tombstones


def _sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def shard(table, partition):
    return f"{int(_sha(f'{table.lower()}/{partition}')[:2], 16) % 16:02x}"


def tombstone_key(table, partition, row):
    return f"t:{_sha(f'{table.lower()}/{partition}')[:32]}:{_sha(row)[:32]}"


def _json(keys):
    return json.dumps(keys, ensure_ascii=False, separators=(",", ":"))


def _units(text):
    return len(text.encode("utf-16-le")) // 2


def records(table, partition, puts, deletes, version, base=None, first=0):
    """The records that announce a change: [(record, its deletes)], more than one where one does not hold it all."""
    parts = [([], [])]
    for row, deleted in [(row, False) for row in puts] + [(row, True) for row in deletes]:
        part_puts, part_deletes = parts[-1]
        chosen = part_deletes if deleted else part_puts
        full = len(part_puts) + len(part_deletes) == MAX_ROWS or deleted and len(part_deletes) == MAX_DELETES
        if full or _units(_json(chosen + [row])) > MAX_UNITS:
            parts.append(([], []))
            chosen = parts[-1][deleted]
        chosen.append(row)
    found = []
    for number, (part_puts, part_deletes) in enumerate(parts, first):
        record = {
            "PartitionKey": shard(table, partition),
            "RowKey": f"c:{version}" + (f"~{number}" if number else ""),
            "Table": table,
            "Partition": partition,
            "Puts": _json(part_puts),
            "Deletes": _json(part_deletes),
            "Version": version,
        }
        found.append((record | ({"Base": base} if base else {}), part_deletes))
    return found


def tombstone(table, partition, row, version):
    keys = {"PartitionKey": shard(table, partition), "RowKey": tombstone_key(table, partition, row)}
    return keys | {"Table": table, "Partition": partition, "Row": row, "Version": version}


def queue_message(table, partition, puts, deletes, version):
    """The queue form, for what writes through an Azure Functions binding: sent after the write, and less safe."""
    return _json({"table": table, "partition": partition, "puts": puts, "deletes": deletes, "version": version})


# The writer


class Writer:
    """settle_window and max_clock_skew, in seconds, must be those of tablerelay's configuration.

    look_at_tombstones: whether a write that may create a row reads its tombstone first, to be above it. Without that, an
    insert after a delete from a region whose clock is ahead would lose.
    """

    def __init__(self, service, region, settle_window=60.0, max_clock_skew=60.0, look_at_tombstones=True):
        self.service, self.half = service, settle_window / 2
        self.look_at_tombstones = look_at_tombstones
        self.clock = Clock(region, max_clock_skew)
        self.feed = service.get_table_client(FEED)
        # Retries within the window. The write itself is sent once: what became of it is read back.
        self.patient = {"retry_total": 2, "connection_timeout": self.half / 6, "read_timeout": self.half / 6}
        self.once = {"retry_total": 0, "connection_timeout": self.half / 2, "read_timeout": self.half}

    def insert(self, table, entity):
        return self.write(table, [("create", entity)])

    def upsert(self, table, entity, over=None):
        return self.write(table, [("upsert", entity, {"mode": UpdateMode.REPLACE})], over)

    def upsert_merge(self, table, entity, over=None):
        return self.write(table, [("upsert", entity, {"mode": UpdateMode.MERGE})], over)

    def replace(self, table, entity, etag=None, over=None):
        return self.write(table, [("update", entity, {"mode": UpdateMode.REPLACE} | _condition(etag))], over)

    def merge(self, table, entity, etag=None, over=None):
        return self.write(table, [("update", entity, {"mode": UpdateMode.MERGE} | _condition(etag))], over)

    def delete(self, table, partition, row, etag=None, over=None):
        return self.write(table, [("delete", {"PartitionKey": partition, "RowKey": row}, _condition(etag))], over)

    def transaction(self, table, operations, over=None):
        """Operations as TableClient.submit_transaction takes them, all of one partition."""
        return self.write(table, operations, over, transaction=True)

    def write(self, table, operations, over=None, transaction=False):
        """`over` is the version of the row that was read, where the entity does not carry it: be above it."""
        operations = [_plain(*operation) for operation in operations]
        partition = operations[0][1]["PartitionKey"]
        puts = [entity["RowKey"] for kind, entity, _ in operations if kind != "delete"]
        deletes = [entity["RowKey"] for kind, entity, _ in operations if kind == "delete"]
        rows = [(entity.get(PROPERTY), entity["RowKey"]) for _, entity, _ in operations]
        over = highest([(over, rows[0][1]), *rows])
        base, standing = (over[0] if len(operations) == 1 else None), {}
        if self.look_at_tombstones:
            creates = [entity["RowKey"] for kind, entity, _ in operations if kind in ("create", "upsert")]
            over = highest([over, *_versions(self.tombstones(table, partition, creates))])
        for _ in range(ATTEMPTS):
            began = time.monotonic()
            version = self.clock.issue(*over)
            change = (table, partition, puts, deletes, version, base)
            try:
                announced = self._announce(change, standing)
            except TombstoneStands:
                announced = None
            if announced is not None and time.monotonic() - began < self.half:
                return self._write(change, operations, announced, began, transaction)
            standing = self.tombstones(table, partition, deletes)
            over = highest([over, *_versions(standing)])
        raise Contended(f"gave up after {ATTEMPTS} announcements")

    def _write(self, change, operations, announced, began, transaction):
        table, version = change[0], change[4]
        client = self.service.get_table_client(table)
        stamped = [
            (kind, entity if kind == "delete" else entity | {PROPERTY: version}, options)
            for kind, entity, options in operations
        ]
        unknown = None
        try:
            replies = self._send(client, stamped, transaction)
        except AzureError as err:
            if isinstance(err, HttpResponseError) and 400 <= (err.status_code or 0) < 500 and err.status_code != 408:
                self._withdraw(announced)  # the first and only attempt was refused: nothing was written
                raise
            replies, unknown = [], None if self._is_written(client, stamped, version) else err
        if time.monotonic() - began > self.half:
            # So late, the daemon may have looked for the last time before the write took effect.
            self._announce_again(change, len(announced))
        if unknown is not None:
            raise UnknownOutcome(version) from unknown
        return Written(version, replies)

    def _send(self, client, operations, transaction):
        if transaction:
            return client.submit_transaction(operations, **self.once)
        [(kind, entity, options)] = operations
        names = {"create": "create_entity", "update": "update_entity", "upsert": "upsert_entity"}
        # A delete of a row that is not there succeeds: the SDK takes its 404 for that.
        send = getattr(client, names.get(kind, "delete_entity"))
        return [send(entity, **options, **self.once)]

    def _is_written(self, client, operations, version):
        """Whether the rows show that the write took effect. A transaction is all or nothing: one row proves it."""
        try:
            found = [(kind, self._get(client, e["PartitionKey"], e["RowKey"])) for kind, e, _ in operations]
        except AzureError:
            return False
        puts = [row for kind, row in found if kind != "delete"]
        if puts:
            return any(row is not None and row.get(PROPERTY) == version for row in puts)
        return all(row is None for _, row in found)

    def _announce(self, change, standing):
        """Inserts the records, each with the tombstones of its deletes. Returns the records' keys."""
        table, partition, _, _, version, _ = change
        keys = []
        for record, deletes in records(*change):
            operations = [("create", record)]
            for row in deletes:
                stone = tombstone(table, partition, row, version)
                if row in standing:
                    condition = _condition(standing[row].metadata["etag"])
                    operations.append(("update", stone, {"mode": UpdateMode.REPLACE} | condition))
                else:
                    operations.append(("create", stone))
            self._insert(record, operations)
            keys.append((record["PartitionKey"], record["RowKey"]))
        return keys

    def _announce_again(self, change, first):
        for record, _ in records(*change, first=first):
            self._insert(record, [("create", record)])

    def _insert(self, record, operations):
        """Inserts a record, and again where the outcome is unknown: nobody else has its key."""
        for tries_left in (2, 1, 0):
            try:
                if len(operations) == 1:
                    self.feed.create_entity(record, **self.patient)
                else:
                    self.feed.submit_transaction(operations, **self.patient)
                return
            except AzureError as err:
                status = getattr(err, "status_code", None) or 0
                if self._get(self.feed, record["PartitionKey"], record["RowKey"]) is not None:
                    return
                if status in (404, 409, 412) and getattr(err, "error_code", "") != "TableNotFound":
                    raise TombstoneStands from err
                if 400 <= status < 500 or not tries_left:
                    raise

    def _withdraw(self, keys):
        for partition, row in keys:
            try:
                self.feed.delete_entity(partition, row, **self.patient)
            except AzureError:
                pass  # a record that is left behind costs a wait in Last Sync Time, nothing else

    def tombstones(self, table, partition, rows):
        """The tombstones that stand there, by row key."""
        wanted = {tombstone_key(table, partition, row): row for row in rows}
        part = shard(table, partition)
        if len(wanted) <= 3:
            found = [self._get(self.feed, part, key) for key in wanted]
        else:
            bounds = {"part": part, "least": min(wanted), "most": max(wanted)}
            query = "PartitionKey eq @part and RowKey ge @least and RowKey le @most"
            found = self.feed.query_entities(query, parameters=bounds, **self.patient)
        return {wanted[stone["RowKey"]]: stone for stone in found if stone is not None and stone["RowKey"] in wanted}

    def _get(self, client, partition, row):
        try:
            return client.get_entity(partition, row, **self.patient)
        except ResourceNotFoundError:
            return None


def _condition(etag):
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}


def _versions(tombstones):
    return [(stone["Version"], row) for row, stone in tombstones.items()]


def _plain(kind, entity, options=None):
    """An operation whose entity is a dict, and whose ETag is said."""
    options = dict(options or {})
    if options.get("match_condition") == MatchConditions.IfNotModified and "etag" not in options:
        options["etag"] = entity.metadata["etag"]
    return str(getattr(kind, "value", kind)), dict(entity), options
