// Whether Microsoft's JavaScript client reads in one region exactly what it wrote in another.
//
//     node roundtrip.mjs write orders west        writes rows of every type through the writer, as region west
//     node roundtrip.mjs check orders             reads them and compares values and types; waits until all are there
//     node roundtrip.mjs change orders west       merges into, replaces and deletes them, some in one transaction
//     node roundtrip.mjs check orders --changed   reads what that left
//     node roundtrip.mjs check orders --wait 60
//
// TABLES_CONNECTION is the connection string of the region's account. Exit code 1: they differ, and how.

import { setTimeout as sleep } from "node:timers/promises";
import { inspect, isDeepStrictEqual, parseArgs } from "node:util";

import { TableClient } from "@azure/data-tables";

import { Writer } from "./tablerelay-writer.mjs";

const PARTITION = "JavaScript's rows";
const KEYS = ["it's", 'say "x"', "100 %", "a b+c", "日本", "😀", "", "a:b", "&=;,@$[]{}|^`<>~!*()", "ends with '"];
const VALUES = {
  text: "a ünïcode 😀 text with 'quotes', \"more\", \\ and\nlines\t",
  empty: "",
  looksLikeNumber: "007",
  int32Least: -(2 ** 31),
  int32Most: 2 ** 31 - 1,
  int64Least: -(2n ** 63n),
  int64Most: 2n ** 63n - 1n,
  int64Small: 7n,
  true: true,
  false: false,
  double: 0.1,
  doubleMost: Number.MAX_VALUE,
  doubleLeast: Number.MIN_VALUE,
  time: new Date("2026-11-22T12:18:00.123Z"),
  timeFirst: new Date("1601-01-01T00:00:00Z"),
  binary: Uint8Array.from({ length: 256 }, (_, n) => n),
  binaryEmpty: new Uint8Array(),
  guid: { type: "Guid", value: "c9da6455-213d-42c9-9a79-3e9149a57833" },
};
// What JavaScript has no value of its own for, in the client's typed form: written so, and read so.
const TYPED = {
  nan: { type: "Double", value: "NaN" },
  infinity: { type: "Double", value: "Infinity" },
  sevenDigits: { type: "DateTime", value: "2026-11-22T12:18:00.1234567Z" },
};
// The client reads 1.0 and 1 alike, so this one is looked for in the reply's text.
const WHOLE = { wholeDouble: { type: "Double", value: "1.0" } };

const connect = (table, options) =>
  TableClient.fromConnectionString(process.env.TABLES_CONNECTION, table, { allowInsecureConnection: true, ...options });

const row = (rowKey, values) => ({ partitionKey: PARTITION, rowKey, ...values });

/** What stands there after `write`: what was inserted, merged, replaced, written in a transaction. */
const rows = () => [
  ...KEYS.map((key) => row(key, VALUES)),
  row("merged", { ...VALUES, more: "merged in" }),
  row("replaced", { double: 2.5 }),
  row("one", VALUES),
  row("two", VALUES),
];

/** Every second odd key is deleted by `change`. */
const isKept = (key) => KEYS.indexOf(key) % 2 === 0;

/** What stands there after `change`. */
const changed = () => [
  ...KEYS.filter(isKept).map((key) => row(key, { ...VALUES, int32Most: 1, more: key })),
  row("merged", { text: "replaced" }),
  row("replaced", VALUES),
  row("two", { ...VALUES, more: "merged in" }),
  row("three", VALUES),
];

async function write(table, region) {
  const [client, writer] = [connect(table), new Writer(connect, region)];
  await connect("RelayFeed").createTable();
  await client.createTable();
  for (const key of KEYS) await writer.insert(table, row(key, VALUES));
  await writer.insert(table, row("typed", { ...TYPED, ...WHOLE }));
  await writer.insert(table, row("merged", VALUES));
  await writer.merge(table, row("merged", { more: "merged in" }));
  await writer.upsert(table, row("replaced", VALUES));
  const read = await client.getEntity(PARTITION, "replaced");
  await writer.replace(table, row("replaced", { double: 2.5, RelayVersion: read.RelayVersion }), { etag: read.etag });
  await writer.insert(table, row("deleted"));
  await writer.delete(table, PARTITION, "deleted");
  await writer.insert(table, row("gone"));
  await writer.transaction(table, [
    ["create", row("one", VALUES)],
    ["upsert", row("two", VALUES), "Replace"],
    ["delete", row("gone")],
  ]);
}

async function change(table, region) {
  const writer = new Writer(connect, region);
  for (const key of KEYS) {
    if (isKept(key)) await writer.merge(table, row(key, { int32Most: 1, more: key }));
    else await writer.delete(table, PARTITION, key);
  }
  await writer.upsert(table, row("merged", { text: "replaced" }));
  await writer.replace(table, row("replaced", VALUES));
  await writer.transaction(table, [
    ["delete", row("one")],
    ["update", row("two", { more: "merged in" }), "Merge"],
    ["create", row("three", VALUES)],
  ]);
}

/** What the service said beside the row, and the version, which is checked apart. */
function stripped({ etag, timestamp, RelayVersion, "odata.metadata": _, ...found }) {
  return [found, RelayVersion];
}

async function differences(table, rows) {
  const [client, expected, found] = [connect(table), new Map(rows.map((r) => [r.rowKey, r])), new Map()];
  const differ = [];
  try {
    const filter = `PartitionKey eq '${PARTITION.replaceAll("'", "''")}'`;
    for await (const entity of client.listEntities({ queryOptions: { filter } })) found.set(entity.rowKey, entity);
    let body;
    const onResponse = (reply) => (body = reply.bodyAsText);
    const typed = await client.getEntity(PARTITION, "typed", { disableTypeConversion: true, onResponse });
    for (const [name, wanted] of Object.entries(TYPED)) {
      if (!isDeepStrictEqual(typed[name], wanted)) {
        differ.push(`typed: ${name} should be ${inspect(wanted)} and is ${inspect(typed[name])}`);
      }
    }
    if (!/"wholeDouble":\s*1\.0\b/.test(body)) differ.push(`typed: wholeDouble should be the Double 1.0: ${body}`);
  } catch (err) {
    return [err.message];
  }
  found.delete("typed");
  for (const key of found.keys()) if (!expected.has(key)) differ.push(`${inspect(key)} should not be there`);
  for (const [key, wanted] of expected) {
    const [got, version] = stripped(found.get(key) ?? {});
    if (version === undefined) differ.push(`${inspect(key)} is missing, or has no RelayVersion`);
    for (const name of new Set([...Object.keys(wanted), ...Object.keys(got)])) {
      const [a, b] = [wanted[name], got[name] instanceof Uint8Array ? Uint8Array.from(got[name]) : got[name]];
      if (!isDeepStrictEqual(a, b)) differ.push(`${inspect(key)}: ${name} should be ${inspect(a)} and is ${inspect(b)}`);
    }
  }
  return differ;
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { wait: { type: "string", default: "30" }, changed: { type: "boolean", default: false } },
});
const [action, table, region] = positionals;
if (action === "write" && region !== undefined) {
  await write(table, region);
} else if (action === "change" && region !== undefined) {
  await change(table, region);
} else if (action === "check" && table !== undefined) {
  const [expected, deadline] = [values.changed ? changed() : rows(), Date.now() + Number(values.wait) * 1_000];
  let differ;
  while ((differ = await differences(table, expected)).length > 0 && Date.now() < deadline) await sleep(200);
  console.log(differ.join("\n") || `${expected.length + 1} rows are what they should be`);
  process.exitCode = differ.length > 0 ? 1 : 0;
} else {
  console.error("usage: node roundtrip.mjs write|change TABLE REGION | check TABLE [--changed] [--wait SECONDS]");
  process.exitCode = 2;
}
