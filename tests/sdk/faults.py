"""What Microsoft's Python client makes of a store that fails: it asks for the faults itself, over HTTP.

    python -m unittest faults.py

TABLES_CONNECTION is the account's connection string, TABLES_CONTROL where its faults are asked for.
"""

import json
import os
import unittest
import urllib.request
import uuid

from azure.core.exceptions import HttpResponseError, ServiceResponseError
from azure.data.tables import TableServiceClient, TableTransactionError, UpdateMode

CONTROL = os.environ["TABLES_CONTROL"]
NO_RETRIES = {"retry_total": 0, "retry_connect": 0, "retry_read": 0, "retry_status": 0}


def control(method, path, **body):
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(CONTROL + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.loads(reply.read() or "null")


def fail(request, fault, **more):
    control("POST", "/faults", request=request, fault=fault, **more)


def row(key, **properties):
    return {"PartitionKey": "p", "RowKey": key, **properties}


class Faults(unittest.TestCase):
    def setUp(self):
        control("DELETE", "/faults")
        self.name = "t" + uuid.uuid4().hex
        connection = os.environ["TABLES_CONNECTION"]
        TableServiceClient.from_connection_string(connection).create_table(self.name)
        patient = {"retry_total": 3, "retry_backoff_factor": 0.01}
        self.patient, self.plain = (
            TableServiceClient.from_connection_string(connection, **options).get_table_client(self.name)
            for options in (patient, NO_RETRIES)
        )

    def test_a_busy_server_is_asked_again(self):
        before = control("GET", "")["requests"]["write"]
        fail("write", "before", status=503, retry_after_ms=50, times=2)
        self.patient.create_entity(row("r", A=1))
        self.assertEqual(control("GET", "")["requests"]["write"] - before, 3)
        self.assertEqual(self.plain.get_entity("p", "r")["A"], 1)

    def test_a_refusal_has_its_status(self):
        fail("write", "before", status=429, code="TooManyRequests")
        with self.assertRaises(HttpResponseError) as failed:
            self.plain.create_entity(row("r"))
        self.assertEqual(failed.exception.status_code, 429)
        self.assertEqual(list(self.plain.list_entities()), [])

    def test_a_connection_is_cut_before_the_effect_and_after(self):
        for fault, there in (("lost-request", 0), ("lost-reply", 1)):
            fail("write", fault)
            with self.assertRaises(ServiceResponseError):
                self.plain.create_entity(row(fault))
            self.assertEqual(len(list(self.plain.query_entities(f"RowKey eq '{fault}'"))), there)

    def test_a_put_whose_reply_is_lost_is_sent_again(self):
        before = control("GET", "")["requests"]["write"]
        fail("write", "lost-reply")
        self.patient.upsert_entity(row("r", A=1), mode=UpdateMode.REPLACE)
        self.assertEqual(control("GET", "")["requests"]["write"] - before, 2)

    def test_a_transaction_fails_in_its_middle(self):
        fail("transact", "before", status=412, index=1)
        with self.assertRaises(TableTransactionError) as failed:
            self.plain.submit_transaction([("create", row("a")), ("create", row("b")), ("create", row("c"))])
        self.assertEqual((failed.exception.index, failed.exception.status_code), (1, 412))
        self.assertEqual(list(self.plain.list_entities()), [])


if __name__ == "__main__":
    unittest.main()
