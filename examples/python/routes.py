"""Which account of a region holds a row, by the routes that tablerelay has published there.

Copy this file into the application, beside tablerelay_writer.py. A region with one account needs none of it.

    def connect(account, endpoint):                        # the application's own credentials
        return TableServiceClient(endpoint, credential=credentials[account])

    west = RoutedRegion(first, connect)                    # first: a TableServiceClient of any account of the region
    service = west.service("orders", "customer-17")        # whose tables hold the row
    west.writer("orders", "customer-17").upsert("orders", {"PartitionKey": "customer-17", "RowKey": "1"})
    row = west.read("orders", "customer-17", "1")          # None where there is none; finds it while rows move and where it is cold

Where routes go by the age of rows, what was read may stand in its cold place and not at home: change it by an upsert of the whole row.
"""

import hashlib
import json
import re
import threading
import time

from azure.core.exceptions import ResourceNotFoundError

from tablerelay_writer import PROPERTY, Writer

SCHEMA = 1


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


class RoutedRegion:
    """The accounts of a region. Threads may share it.

    `first` is a TableServiceClient of any of them, `connect` makes that of another by its name and its published endpoint.
    `options` are those of every Writer.
    """

    def __init__(self, first, connect, **options):
        self.first, self.connect, self.options = first, connect, options
        self.services, self.writers, self.clock, self.lock = {}, {}, None, threading.Lock()
        self.known, self.read = None, 0.0

    def routes(self):
        """The routes in force, read again when they may be gone by no longer. Where they cannot be read, the last ones do."""
        with self.lock:
            now = time.monotonic()
            if self.known is None or now - self.read > self.known.document["hold_seconds"] / 2:
                try:
                    row = self.first.get_table_client("RelayControl").get_entity("routes", "current")
                    self.known, self.read = Routes(row["Routes"]), now
                except Exception:
                    # What is written by old routes is found and brought to its place; nothing at all is written by none.
                    if self.known is None:
                        raise
            return self.known

    def service(self, table, partition):
        """The TableServiceClient of the account that holds a partition."""
        routes = self.routes()
        return self._service(routes, routes.account(table, partition))

    def writer(self, table, partition):
        """The Writer to the account that holds a partition. All of a process share one clock."""
        routes = self.routes()
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
        routes = self.routes()
        home = self.writer(table, partition)
        found = _get(home.service, table, partition, row)
        others = routes.others(table, partition)
        if found is not None or not others:
            return found
        for other in others:
            found = _get(self._service(routes, other), table, partition, row)
            if found is not None:
                stone = home.tombstones(table, partition, [row]).get(row)
                if stone is None or stone["Version"] < found.get(PROPERTY, ""):
                    return found
        return _get(home.service, table, partition, row)

    def _service(self, routes, account):
        with self.lock:
            if account not in self.services:
                self.services[account] = self.connect(account, routes.document["endpoints"].get(account))
            return self.services[account]
