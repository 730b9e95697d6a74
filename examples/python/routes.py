"""Which account of a region holds a row, by the routes that tablerelay has published there.

Copy this file into the application, beside tablerelay_writer.py. A region with one account needs none of it.

    def connect(account, endpoint):                        # the application's own credentials
        return TableServiceClient(endpoint, credential=credentials[account])

    west = RoutedRegion(first, connect)                    # first: a TableServiceClient of any account of the region
    service = west.service("orders", "customer-17")        # whose tables hold the row
    west.writer("orders", "customer-17").upsert("orders", {"PartitionKey": "customer-17", "RowKey": "1"})
    row = west.read("orders", "customer-17", "1")          # None where there is none; finds it while rows move and where it is cold
    west.insert("orders", entity)                          # fails where the row is, wherever that is
    west.upsert_merge("orders", entity)                    # merges into the row, wherever it is
    west.replace("orders", entity, etag)                   # replaces the row that was read, wherever it was

While rows move, and where routes go by their age, a row may stand elsewhere than where it is written. An upsert of the whole row and a
delete are right everywhere. What depends on what stands there is so by these methods alone.
"""

import hashlib
import json
import re
import threading
import time

from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

from tablerelay_writer import PROPERTY, Contended, Writer

SCHEMA = 1
ATTEMPTS = 8
RETRY_AFTER = 5.0


class RoutesAreOld(Exception):
    """The region's routes could not be read for so long that rows may have moved since: a row that is not found may be elsewhere."""


class Routes:
    """What stands in the property Routes of the row ("routes", "current") of RelayControl, in every account of a region."""

    def __init__(self, text):
        self.document = json.loads(text)
        if self.document["schema"] != SCHEMA:
            raise ValueError(f"routes of schema {self.document['schema']}: this program knows {SCHEMA}")

    def account(self, table, partition):
        return place(self.document, table, partition)[0]

    def others(self, table, partition):
        """Where else a row may be: where it was or is going to be while rows move, and where it is cold. In the order to read them."""
        home, moving = self.account(table, partition), self.document.get("moving")
        others = [cold(self.document, table, partition)]
        if moving:
            others = [place(moving, table, partition)[0], *others, cold(moving, table, partition)]
        return [other for n, other in enumerate(others) if other not in (None, home, *others[:n])]


def place(rules, table, partition):
    """The account that holds a partition, and the name of the route that says so, or None where it is the spread."""
    # The most specific route is first.
    for route in rules["routes"]:
        if _takes(route, table, partition):
            return highest(route["accounts"], table, partition), route["name"]
    return highest(rules["spread"], table, partition), None


def cold(rules, table, partition):
    """The account that rows of a partition go to once they are old; None where no route says so."""
    for route in rules.get("aged", []):
        if _takes(route, table, partition):
            account = highest(route["accounts"], table, partition)
            return account if account != place(rules, table, partition)[0] else None
    return None


def highest(accounts, table, partition):
    """Rendezvous hashing: of several accounts, the one that scores highest together with the partition."""
    score = lambda account: hashlib.sha256(f"{account}/{table.lower()}/{partition}".encode()).digest()
    return max(accounts, key=score)


def _takes(route, table, partition):
    if "tables" in route and table.lower() not in [name.lower() for name in route["tables"]]:
        return False
    if "partition" in route:
        return partition == route["partition"]
    if "partition_prefix" in route:
        return partition.startswith(route["partition_prefix"])
    if "partition_pattern" in route:
        parts = route["partition_pattern"].split("*")
        return re.fullmatch(".*".join(map(re.escape, parts)), partition, re.DOTALL) is not None
    return True


def _get(service, table, partition, row):
    try:
        return service.get_table_client(table).get_entity(partition, row)
    except ResourceNotFoundError:
        return None


def _routes(service):
    return Routes(service.get_table_client("RelayControl").get_entity("routes", "current")["Routes"])


class RoutedRegion:
    """The accounts of a region. Threads may share it.

    `first` is a TableServiceClient of any of them, `connect` makes that of another by its name and its published endpoint.
    `options` are those of every Writer.
    """

    def __init__(self, first, connect, **options):
        self.first, self.connect, self.options = first, connect, options
        self.services, self.writers, self.clock, self.lock = {}, {}, None, threading.RLock()
        self.known, self.heard, self.next = None, 0.0, 0.0

    def routes(self):
        """The routes in force, read again when they may soon be gone by no longer. Where they cannot be read, the last ones do for who
        writes: what is written by old routes is found and brought to its place. Nothing at all is written by none."""
        now = time.monotonic()
        with self.lock:
            known = self.known
            if known is not None and now < self.next:
                return known
            self.next = now + RETRY_AFTER  # one thread reads them, and not again at once where that fails
        try:
            # What stands in the region's first account counts, which the others name.
            copy = known or _routes(self.first)
            read = _routes(self._service(copy, copy.document["home"]))
        except Exception:
            if known is None:
                raise
            return known
        with self.lock:
            if self.known is None or self.known.document["epoch"] <= read.document["epoch"]:
                self.known, self.heard, self.next = read, now, now + read.document["hold_seconds"] / 2
            return self.known

    def fresh_routes(self):
        """The same for who reads: by routes that are older than they may be, a row that has moved would be missed."""
        routes = self.routes()
        if time.monotonic() - self.heard > routes.document["hold_seconds"]:
            raise RoutesAreOld(f"the routes of {routes.document['region']} could not be read of late")
        return routes

    def service(self, table, partition):
        """The TableServiceClient of the account that holds a partition."""
        routes = self.routes()
        return self._service(routes, routes.account(table, partition))

    def writer(self, table, partition):
        """The Writer to the account that holds a partition. All of a process share one clock."""
        return self._writer(self.routes(), table, partition)

    def _writer(self, routes, table, partition):
        account = routes.account(table, partition)
        service = self._service(routes, account)
        with self.lock:
            if account not in self.writers:
                writer = Writer(service, routes.document["region"], **self.options)
                self.clock = self.clock or writer.clock
                writer.clock = self.clock
                self.writers[account] = writer
            return self.writers[account]

    def read(self, table, partition, row):
        """A row, or None. It may be where other routes lead, while rows move, or in its cold place: what stands there counts unless it
        was deleted at home, which has the last word, since the row may have moved between the reads."""
        return self._find(table, partition, row)[0]

    def insert(self, table, entity):
        """Creates a row; ResourceExistsError where it is there already."""
        found, _, home = self._find(table, entity["PartitionKey"], entity["RowKey"])
        if found is not None:
            raise ResourceExistsError("the row exists already")
        return home.insert(table, entity)

    def upsert_merge(self, table, entity):
        """Merges properties into a row, or creates it."""
        for _ in range(ATTEMPTS):
            found, at_home, home = self._find(table, entity["PartitionKey"], entity["RowKey"])
            try:
                if found is not None and at_home:
                    # On its ETag: it may be on its way to its cold place.
                    return home.merge(table, entity, etag=found.metadata["etag"], over=found.get(PROPERTY))
                return home.insert(table, {**(found or {}), **entity})
            except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
                pass  # somebody was faster: look again
        raise Contended(f"gave up after {ATTEMPTS} attempts")

    def replace(self, table, entity, etag=None):
        """Replaces a row, on its ETag where that is given; as the SDK, ResourceNotFoundError where there is none and
        ResourceModifiedError where it is another."""
        for _ in range(ATTEMPTS):
            found, at_home, home = self._find(table, entity["PartitionKey"], entity["RowKey"])
            if found is None:
                raise ResourceNotFoundError("there is no such row")
            if etag not in (None, found.metadata["etag"]):
                raise ResourceModifiedError("the row was changed since it was read")
            try:
                if at_home:
                    return home.replace(table, entity, etag=found.metadata["etag"], over=found.get(PROPERTY))
                return home.insert(table, {PROPERTY: found.get(PROPERTY)} | entity)
            except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
                pass  # somebody was faster, maybe the mover, whose copy has another ETag: look again
        raise Contended(f"gave up after {ATTEMPTS} attempts")

    def _find(self, table, partition, row):
        """A row, whether it stands at home, and the Writer there."""
        routes = self.fresh_routes()
        home = self._writer(routes, table, partition)
        found = _get(home.service, table, partition, row)
        others = routes.others(table, partition)
        if found is not None or not others:
            return found, True, home
        for other in others:
            found = _get(self._service(routes, other), table, partition, row)
            if found is not None:
                stone = home.tombstones(table, partition, [row]).get(row)
                if stone is None or stone["Version"] < found.get(PROPERTY, ""):
                    return found, False, home
        return _get(home.service, table, partition, row), True, home

    def _service(self, routes, account):
        with self.lock:
            if account not in self.services:
                self.services[account] = self.connect(account, routes.document["endpoints"].get(account))
            return self.services[account]
