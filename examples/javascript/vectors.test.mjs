// The writer's functions against the protocol's vectors, which every implementation is checked by.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { cacheKey, entryOf } from "./cache-aside.mjs";
import { otherPlaces, parseRoutes, place } from "./routes.mjs";
import * as relay from "./tablerelay-writer.mjs";

const VECTORS = JSON.parse(readFileSync(new URL("../../vectors/protocol.json", import.meta.url), "utf8"));

const readable = ({ Puts, Deletes, ...row }) => ({ ...row, Puts: JSON.parse(Puts), Deletes: JSON.parse(Deletes) });
const named = ({ partitionKey, rowKey, ...row }) => ({ PartitionKey: partitionKey, RowKey: rowKey, ...row });

test("versions sort as their bytes", () => {
  const { ascending } = VECTORS.version_order;
  assert.deepEqual([...ascending].sort(), ascending);
});

test("versions are told from other texts", () => {
  for (const text of VECTORS.version.valid) assert.ok(relay.isVersion(text), text);
  for (const { text, why } of VECTORS.version.invalid) assert.ok(!relay.isVersion(text), why);
});

test("the clock issues above what it knows", () => {
  const { region, writer, skew_seconds: maxClockSkew, cases } = VECTORS.clock;
  const ticks = (time) => relay.ticksOf(`${time}@a.00000000`);
  for (const { now, last, over, issued } of cases) {
    let time = last === null ? undefined : ticks(last);
    const clock = new relay.Clock(region, { maxClockSkew, writer, now: () => time });
    if (last !== null) clock.issue();
    time = ticks(now);
    if (issued === null) assert.throws(() => clock.issue(over, "row 1"), /row 1/);
    else assert.equal(clock.issue(over), issued);
  }
});

test("shards, tombstones and cache keys are named alike", () => {
  for (const c of VECTORS.shard) assert.equal(relay.shard(c.table, c.partition), c.shard);
  for (const c of VECTORS.tombstone_key) assert.equal(relay.tombstoneKey(c.table, c.partition, c.row), c.key);
  for (const c of VECTORS.cache_key) assert.equal(cacheKey(c.table, c.partition, c.row), c.key);
});

test("records and tombstones are written alike", () => {
  for (const { name, change, records, tombstones } of VECTORS.record) {
    const found = relay.records({ ...change, base: change.base ?? undefined });
    assert.deepEqual(found.map(({ record }) => readable(named(record))), records.map(readable), name);
    const stones = found.flatMap(({ deletes }) =>
      deletes.map((row) => named(relay.tombstone(change.table, change.partition, row, change.version))),
    );
    assert.deepEqual(stones, tombstones);
  }
});

test("a list takes 30,000 UTF-16 units", () => {
  for (const key of ["é".repeat(1022), "😀".repeat(511)]) {
    const puts = Array.from({ length: 31 }, (_, n) => String(n).padStart(2, "0") + key);
    const change = { table: "orders", partition: "p", puts, deletes: [], version: VECTORS.version.valid[0] };
    const parts = relay.records(change).map(({ record }) => JSON.parse(record.Puts));
    assert.deepEqual(parts.map((part) => part.length), [29, 2]);
    assert.deepEqual(parts.flat(), puts);
  }
});

test("routes lead to the same accounts", () => {
  const { document, cases } = VECTORS.routes;
  const routes = parseRoutes(document);
  for (const { table, partition, account, route, others } of cases) {
    assert.deepEqual(place(routes, table, partition), { account, route: route ?? undefined }, `${table} ${partition}`);
    assert.deepEqual(otherPlaces(routes, table, partition), others, `${table} ${partition}`);
  }
  assert.throws(() => parseRoutes(document.replace('"schema":1', '"schema":2')), /schema 2/);
});

test("messages say the same", () => {
  const { text, change } = VECTORS.message[0];
  assert.deepEqual(JSON.parse(relay.queueMessage(change)), JSON.parse(text));
});

test("an entry holds every value as the text that it was", () => {
  const body = String.raw`{"odata.metadata":"x","odata.etag":"W/\"1\"","PartitionKey":"it's","RowKey":"a\"b, c: {d}",
    "Timestamp@odata.type":"Edm.DateTime","Timestamp":"2026-11-22T12:18:00Z","N@odata.type":"Edm.Int64","N":"9223372036854775807",
    "D":1.50,"E":-1e3,"I":-7,"B":true,"S":"\\","Z":"","RelayVersion":"v","T@odata.type":"Edm.Double","T":0.1}`;
  const expected = String.raw`{"PartitionKey":"it's","RowKey":"a\"b, c: {d}","RelayVersion":"v","N@odata.type":"Edm.Int64","N":"9223372036854775807","D@odata.type":"Edm.Double","D":1.50,"E@odata.type":"Edm.Double","E":-1e3,"I":-7,"B":true,"S":"\\","Z":"","T@odata.type":"Edm.Double","T":0.1}`;
  assert.equal(entryOf(body), expected);
});
