// The same as reader.py. Run in examples/javascript.

import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

import { TableClient } from "@azure/data-tables";
import { createClient } from "redis";

import { CacheAside } from "./cache-aside.mjs";

const { TABLES_CONNECTION, TABLE, REDIS_URL } = process.env;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const table = TableClient.fromConnectionString(TABLES_CONNECTION, TABLE, { allowInsecureConnection: true });
const slow = {
  tableName: table.tableName,
  async getEntity(...args) {
    const entity = await table.getEntity(...args);
    console.log("read");
    await lines.next();
    return entity;
  },
};
const cache = await createClient({ url: REDIS_URL }).connect();
const script = await readFile("../../src/cache/refresh.lua", "utf8");
const readers = { get: new CacheAside(table, cache, script), slow: new CacheAside(slow, cache, script) };
for (let line; !(line = await lines.next()).done; ) {
  const [kind, partition, row] = JSON.parse(line.value);
  console.log(JSON.stringify((await readers[kind].get(partition, row)) ?? null));
}
cache.destroy();
