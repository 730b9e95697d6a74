// The writer and the reader against a real table service and a real Redis.
//
// TABLES_CONNECTION is the connection string of an Azurite, REDIS_URL the address of a Redis; both are written to.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, test } from "node:test";

import { TableClient } from "@azure/data-tables";
import { createClient } from "redis";

import { CacheAside, cacheKey } from "./cache-aside.mjs";
import * as relay from "./tablerelay-writer.mjs";

const { TABLES_CONNECTION, REDIS_URL } = process.env;
const SCRIPT = readFileSync(new URL("../../src/cache/refresh.lua", import.meta.url), "utf8");
const ODD_KEYS = ["it's", 'say "x"', "100 %", "a b+c", "日本", "😀", "", "a:b", "ends with '"];

let [table, rows, feed, writer, lost, sent] = [];

/** Counts requests, and loses those that it is told to: method, part of the URL, whether it is sent before. */
const line = {
  name: "line",
  async sendRequest(request, next) {
    sent.push([request.method, request.url]);
    const at = lost.findIndex(([method, part]) => request.method === method && request.url.includes(part));
    if (at < 0) return next(request);
    const [[, , reaches]] = lost.splice(at, 1);
    if (reaches) await next(request);
    throw Object.assign(new Error("the connection was reset"), { name: "RestError", code: "ECONNRESET" });
  },
};

const connect = (name, options = {}) =>
  TableClient.fromConnectionString(TABLES_CONNECTION, name, {
    allowInsecureConnection: true,
    ...options,
    retryOptions: { retryDelayInMs: 10, ...options.retryOptions },
    additionalPolicies: [{ policy: line, position: "perRetry" }],
  });

const all = async (client) => {
  const found = [];
  for await (const row of client.listEntities()) found.push(row);
  return found;
};

const inFeed = async (prefix) => {
  const found = (await all(feed)).filter((row) => row.Table === table && row.rowKey.startsWith(prefix));
  return found.sort((a, b) => (a.rowKey < b.rowKey ? -1 : 1));
};

const row = (rowKey = "1", partitionKey = "p", properties = {}) => ({ partitionKey, rowKey, ...properties });

const version = (seconds) =>
  new relay.Clock("north", { now: () => BigInt(Date.now() + seconds * 1_000) * 10_000n }).issue();

const sends = (method, part) => sent.filter(([verb, url]) => verb === method && url.includes(part)).length;

beforeEach(async () => {
  [table, lost, sent] = [`t${randomBytes(6).toString("hex")}`, [], []];
  [rows, feed, writer] = [connect(table), connect("RelayFeed"), new relay.Writer(connect, "west")];
  await feed.createTable();
  await rows.createTable();
});

afterEach(() => rows.deleteTable());

describe("the writer", () => {
  test("a put is announced and carries its version", async () => {
    const written = await writer.insert(table, row("1", "p", { name: "a" }));
    const found = await rows.getEntity("p", "1");
    assert.deepEqual([found.name, found.RelayVersion], ["a", written.version]);
    const [record, ...others] = await inFeed("c:");
    assert.deepEqual([record.rowKey, record.Puts, others], [`c:${written.version}`, '["1"]', []]);
    assert.equal(record.partitionKey, relay.shard(table, "p"));
  });

  test("odd keys go through every step", async () => {
    for (const key of ODD_KEYS) {
      for (const partition of new Set([key, "p"])) {
        await writer.upsert(table, row(key, partition));
        await writer.merge(table, row(key, partition, { more: 1 }));
        assert.equal((await rows.getEntity(partition, key)).more, 1, key);
        await writer.delete(table, partition, key);
      }
      assert.equal((await writer.tombstones(table, "p", [key])).size, 1, key);
    }
    assert.deepEqual(await all(rows), []);
    assert.deepEqual(new Set((await writer.tombstones(table, "p", ODD_KEYS)).keys()), new Set(ODD_KEYS));
  });

  test("a refused write takes its record back", async () => {
    const first = await writer.insert(table, row());
    await assert.rejects(writer.insert(table, row()), { statusCode: 409 });
    await assert.rejects(writer.replace(table, row(), { etag: 'W/"other"' }), { statusCode: 412 });
    assert.deepEqual((await inFeed("c:")).map((record) => record.Version), [first.version]);
  });

  test("a row that was read is replaced by a higher version on its ETag", async () => {
    const ahead = version(30);
    await rows.upsertEntity(row("1", "p", { RelayVersion: ahead }));
    const read = await rows.getEntity("p", "1");
    const written = await writer.replace(table, read, { etag: read.etag });
    assert.ok(written.version > ahead);
    assert.equal((await inFeed("c:"))[0].Base, ahead);
    await assert.rejects(writer.upsert(table, row(), { over: version(90) }), relay.AheadOfClock);
  });

  test("a delete raises its tombstone and never lowers it", async () => {
    await writer.insert(table, row());
    await writer.delete(table, "p", "1");
    const again = await writer.delete(table, "p", "1");
    const [stone, ...others] = await inFeed("t:");
    assert.deepEqual([stone.Version, stone.Row, others], [again.version, "1", []]);
    const ahead = version(40);
    await feed.upsertEntity(relay.tombstone(table, "p", "1", ahead), "Replace");
    const made = await writer.insert(table, row());
    assert.ok(made.version > ahead);
    assert.ok((await writer.delete(table, "p", "1")).version > made.version);
    await feed.upsertEntity(relay.tombstone(table, "p", "1", version(90)), "Replace");
    await assert.rejects(writer.delete(table, "p", "1"), relay.AheadOfClock);
  });

  test("a tombstone that others raise meanwhile is raised above theirs", async () => {
    await writer.delete(table, "p", "1");
    const [look, theirs] = [writer.tombstones.bind(writer), [version(20), version(30)]];
    const coming = [...theirs];
    writer.tombstones = async (...args) => {
      const found = await look(...args);
      if (coming.length > 0 && found.size > 0) {
        await feed.upsertEntity(relay.tombstone(table, "p", "1", coming.shift()), "Replace");
      }
      return found;
    };
    const written = await writer.delete(table, "p", "1");
    assert.deepEqual([coming, (await inFeed("t:"))[0].Version], [[], written.version]);
    assert.ok(written.version > theirs[1]);
  });

  test("a transaction is announced as one", async () => {
    await writer.insert(table, row("old"));
    const actions = [["create", row("a")], ["upsert", row("b"), "Merge"], ["delete", row("old")]];
    const written = await writer.transaction(table, actions);
    const record = (await inFeed("c:")).at(-1);
    assert.deepEqual([record.Puts, record.Deletes], ['["a","b"]', '["old"]']);
    assert.deepEqual(new Set((await all(rows)).map((found) => found.RelayVersion)), new Set([written.version]));
    await assert.rejects(writer.transaction(table, actions), { statusCode: 409 });
    assert.equal((await inFeed("c:")).length, 2);
  });

  test("a hundred deletes take two records", async () => {
    const keys = Array.from({ length: 100 }, (_, n) => `r${String(n).padStart(3, "0")}`);
    const each = (kind) => keys.map((key) => [kind, row(key)]);
    let written;
    for (let time = 0; time < 2; time++) {
      await writer.transaction(table, each("upsert"));
      written = await writer.transaction(table, each("delete"));
    }
    const announced = await inFeed(`c:${written.version}`);
    assert.deepEqual(announced.map((record) => JSON.parse(record.Deletes).length), [99, 1]);
    assert.deepEqual(new Set((await inFeed("t:")).map((stone) => stone.Version)), new Set([written.version]));
    assert.deepEqual(await all(rows), []);
  });

  test("a lost reply is read back and the write is sent once", async () => {
    lost = [["POST", table, true]];
    const written = await writer.insert(table, row());
    assert.equal((await rows.getEntity("p", "1")).RelayVersion, written.version);
    assert.equal(sends("POST", table), 1);
    lost = [["DELETE", table, true]];
    await writer.delete(table, "p", "1");
    lost = [["POST", "$batch", true]];
    await writer.transaction(table, [["create", row("a")], ["create", row("b")]]);
    assert.equal((await inFeed("c:")).length, 3);
  });

  test("a lost request is unknown and stays announced", async () => {
    for (const [method, write] of [["POST", "insert"], ["PUT", "upsert"]]) {
      [lost, sent] = [[[method, table, false]], []];
      const unknown = await writer[write](table, row()).catch((err) => err);
      assert.ok(unknown instanceof relay.UnknownOutcome, unknown);
      assert.equal((await inFeed("c:")).at(-1).Version, unknown.version);
      assert.equal(sends(method, table), 1);
    }
  });

  test("a lost reply to an announcement leaves one record", async () => {
    for (const reaches of [true, false]) {
      lost = [["POST", "RelayFeed", reaches]];
      await writer.upsert(table, row());
    }
    lost = [["POST", "$batch", true]];
    const written = await writer.delete(table, "p", "1");
    assert.deepEqual([(await inFeed("c:")).length, (await inFeed("t:"))[0].Version], [3, written.version]);
  });

  test("half the settle window is kept", async (t) => {
    let [now, slow] = [0, "RelayFeed"];
    const answer = line.sendRequest;
    t.mock.method(performance, "now", () => now);
    t.mock.method(line, "sendRequest", async (request, next) => {
      const reply = await answer(request, next);
      if (slow !== undefined && request.method === "POST" && request.url.includes(slow)) {
        [now, slow] = [now + 31_000, undefined];
      }
      return reply;
    });
    const again = await writer.insert(table, row("1"));
    const begun = (await inFeed("c:")).map((record) => record.Version);
    assert.deepEqual([begun.length, begun[1]], [2, again.version], "late before the write: begun again");
    slow = table;
    const late = await writer.insert(table, row("2"));
    const announced = (await inFeed("c:")).slice(2).map((record) => record.rowKey);
    assert.deepEqual(announced, [`c:${late.version}`, `c:${late.version}~1`], "late after it: announced again");
  });
});

describe("the cache-aside reader", () => {
  let [cache, reader] = [];

  beforeEach(async () => {
    cache = await createClient({ url: REDIS_URL }).connect();
    reader = new CacheAside(rows, cache, SCRIPT);
  });

  afterEach(() => cache.close());

  test("a miss is filled with the row as it stands", async () => {
    const typed = { n: 2n ** 60n, d: { type: "Double", value: 1.5 }, s: "ü" };
    const written = await writer.insert(table, row("it's", "p", typed));
    const found = await reader.get("p", "it's");
    assert.deepEqual(Object.keys(found).slice(0, 3), ["PartitionKey", "RowKey", "RelayVersion"]);
    assert.deepEqual([found.n, found["n@odata.type"], found.s], [String(2n ** 60n), "Edm.Int64", "ü"]);
    assert.ok(!("Timestamp" in found));
    const held = await cache.hGetAll(cacheKey(table, "p", "it's"));
    assert.deepEqual([held.v, JSON.parse(held.e)], [written.version, found]);
    await rows.deleteEntity("p", "it's");
    assert.deepEqual(await reader.get("p", "it's"), found, "it came from the cache");
    assert.equal(await reader.get("p", "missing"), undefined);
  });

  test("a slow reader does not put an old row back", async () => {
    await writer.insert(table, row("1", "p", { n: 1 }));
    const newer = version(5);
    const key = cacheKey(table, "p", "1");
    await cache.eval(SCRIPT, { keys: [key], arguments: ["write-through", newer, "0", ""] });
    assert.equal((await reader.get("p", "1")).n, 1);
    assert.deepEqual({ ...(await cache.hGetAll(key)) }, { v: newer }, "the mark of the deleted row stays");
  });
});
