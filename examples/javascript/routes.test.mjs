// Reading and writing where routes lead, against a real table service.
//
// TABLES_CONNECTION is the connection string of an Azurite. What stands for other accounts are tables of other names in the same one.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { beforeEach, describe, test } from "node:test";

import { TableClient } from "@azure/data-tables";

import { RoutedRegion, RoutesAreOld } from "./routes.mjs";
import { Writer } from "./tablerelay-writer.mjs";

const VERSION = "2026-01-01T00:00:00.0000000Z@west.00000001";
const order = (properties) => ({ partitionKey: "customer-1", rowKey: "1", ...properties });

let [accounts, west, home, archive] = [];

/** Makes clients of an account whose tables are others than those of the same name elsewhere. */
const account = (name) => (table, options) =>
  TableClient.fromConnectionString(process.env.TABLES_CONNECTION, name + table, { allowInsecureConnection: true, ...options });

const publish = (name, epoch) => {
  const aged = [{ name: "old", date: "Placed", older_than_seconds: 60, accounts: ["westarchive"] }];
  const routes = { schema: 1, region: "west", epoch, home: "west1", hold_seconds: 60, endpoints: {} };
  const text = JSON.stringify({ ...routes, routes: [], spread: [name], aged });
  return accounts[name]("RelayControl").upsertEntity({ partitionKey: "routes", rowKey: "current", Routes: text });
};

const putCold = () => archive.createEntity(order({ Total: 5, Note: "first", RelayVersion: VERSION }));

const totals = async (client) => {
  const { Total, Note } = await client.getEntity("customer-1", "1");
  return [Total, Note];
};

beforeEach(async () => {
  const mark = `t${randomBytes(6).toString("hex")}`;
  accounts = Object.fromEntries(["west1", "westarchive", "gone"].map((name) => [name, account(mark + name)]));
  for (const connect of Object.values(accounts)) {
    for (const table of ["RelayFeed", "RelayControl", "orders"]) await connect(table).createTable();
  }
  await publish("west1", 2);
  await publish("gone", 1);
  west = new RoutedRegion(accounts.west1, (name) => accounts[name]);
  [home, archive] = [accounts.west1("orders"), accounts.westarchive("orders")];
});

describe("a region with a cold place", () => {
  test("what is cold is found, and is no news", async () => {
    await putCold();
    assert.equal((await west.read("orders", "customer-1", "1")).Total, 5);
    await assert.rejects(west.insert("orders", order({ Total: 6 })), { statusCode: 409 });
    await assert.rejects(home.getEntity("customer-1", "1"), { statusCode: 404 });
    await west.insert("orders", { ...order({ Total: 6 }), rowKey: "2" });
    assert.equal((await home.getEntity("customer-1", "2")).Total, 6);
  });

  test("a merge meets the row wherever it is", async () => {
    await west.upsertMerge("orders", order({ Total: 1 }));
    await west.upsertMerge("orders", order({ Note: "more" }));
    assert.deepEqual(await totals(home), [1, "more"]);
    await home.deleteEntity("customer-1", "1");
    await putCold();
    await west.upsertMerge("orders", order({ Total: 6 }));
    assert.deepEqual(await totals(home), [6, "first"]);
    assert.ok((await home.getEntity("customer-1", "1")).RelayVersion > VERSION);
  });

  test("what was read is replaced, wherever it was", async () => {
    await assert.rejects(west.replace("orders", order({ Total: 1 })), { statusCode: 404 });
    await putCold();
    const row = await west.read("orders", "customer-1", "1");
    await west.replace("orders", { ...row, Total: 6 }, { etag: row.etag });
    const found = await home.getEntity("customer-1", "1");
    assert.deepEqual([found.Total, found.Note, found.RelayVersion > VERSION], [6, "first", true]);
    await assert.rejects(west.replace("orders", { ...row, Total: 7 }, { etag: row.etag }), { statusCode: 412 });
    await west.replace("orders", { ...found, Total: 8 }, { etag: found.etag });
    assert.deepEqual(await totals(home), [8, "first"]);
  });

  test("a merge meets a row that leaves its home just then", async (context) => {
    await west.upsertMerge("orders", order({ Total: 1, Note: "first" }));
    const { merge } = Writer.prototype;
    context.mock.method(Writer.prototype, "merge", async function demotedBefore(...parameters) {
      await archive.createEntity(await home.getEntity("customer-1", "1"));
      await home.deleteEntity("customer-1", "1");
      return merge.apply(this, parameters);
    });
    await west.upsertMerge("orders", order({ Total: 2 }));
    assert.deepEqual(await totals(home), [2, "first"]);
  });

  test("the first account counts, whichever is known", async () => {
    const other = new RoutedRegion(accounts.gone, (name) => accounts[name]);
    assert.equal((await other.routes()).epoch, 2);
    assert.equal(await other.connection("orders", "customer-1"), accounts.west1);
  });

  test("by routes that are old one may write, and takes no row for absent", async (context) => {
    let away = false;
    const connect = (name) => (table, options) => {
      if (away && table === "RelayControl") throw new Error("away");
      return accounts[name](table, options);
    };
    const other = new RoutedRegion(accounts.west1, connect);
    assert.equal(await other.read("orders", "customer-1", "1"), undefined);
    away = true;
    const later = performance.now() + 61_000;
    context.mock.method(performance, "now", () => later);
    await assert.rejects(other.read("orders", "customer-1", "1"), RoutesAreOld);
    await (await other.writer("orders", "customer-1")).upsert("orders", order({ Total: 1 }));
    assert.equal((await home.getEntity("customer-1", "1")).Total, 1);
  });
});
