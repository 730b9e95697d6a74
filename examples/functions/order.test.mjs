// The function's bindings, with the test in the place of the host.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { isVersion } from "../javascript/tablerelay-writer.mjs";
import order from "./order/index.mjs";

const { bindings } = JSON.parse(readFileSync(new URL("order/function.json", import.meta.url), "utf8"));

test("the row and the message carry the same version, over bindings of one account", async () => {
  const context = { bindings: {} };
  await order(context, { body: { customer: "it's", id: "1", total: 12.5 } });
  const { row, change, response } = context.bindings;
  assert.ok(isVersion(row.RelayVersion));
  assert.deepEqual(row, { PartitionKey: "it's", RowKey: "1", total: 12.5, RelayVersion: row.RelayVersion });
  const expected = { table: "orders", partition: "it's", puts: ["1"], deletes: [], version: row.RelayVersion };
  assert.deepEqual(JSON.parse(change), expected);
  assert.deepEqual(response, { status: 202, body: { version: row.RelayVersion } });

  const out = Object.fromEntries(bindings.filter((b) => b.direction === "out").map((b) => [b.name, b]));
  assert.deepEqual(Object.keys(out).sort(), Object.keys(context.bindings).sort(), "each output has its binding");
  assert.equal(out.change.queueName, "relay-changes");
  assert.equal(out.change.connection, out.row.connection);
  assert.equal(out.row.tableName, expected.table);
});

test("versions rise from call to call", async () => {
  const versions = [];
  for (let n = 0; n < 3; n++) {
    const context = { bindings: {} };
    await order(context, { body: { customer: "c", id: String(n) } });
    versions.push(context.bindings.row.RelayVersion);
  }
  assert.deepEqual([...new Set(versions)].sort(), versions);
});
