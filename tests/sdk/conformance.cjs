// What Microsoft's JavaScript client finds at a server of the Table REST API: the same on Azurite and on the memory store.
//
//     NODE_PATH=examples/javascript/node_modules node --test tests/sdk/conformance.cjs
//
// TABLES_CONNECTION is the account's connection string, with its key. Not an ES module, since those do not ask NODE_PATH.

"use strict";

const assert = require("node:assert/strict");
const { randomUUID } = require("node:crypto");
const { test } = require("node:test");

const {
  AzureNamedKeyCredential,
  AzureSASCredential,
  TableClient,
  TableServiceClient,
  TableTransaction,
  generateTableSas,
  odata,
} = require("@azure/data-tables");

const CONNECTION = process.env.TABLES_CONNECTION;
const SETTINGS = Object.fromEntries(
  CONNECTION.split(";").filter(Boolean).map((part) => [part.split("=", 1)[0], part.slice(part.indexOf("=") + 1)]),
);
// No retries: what the server says first is what counts.
const OPTIONS = { allowInsecureConnection: true, retryOptions: { maxRetries: 0 } };
const KEYS = ["it's", 'say "x"', "100 %", "%27", "a b+c", "日本", "😀", "", "a:b", "&=;,@$[]{}|^`<>~!*()", "ends with '", ".."];
const VALUES = {
  text: "a ünïcode 😀 text with 'quotes', \"more\", \\ and\nlines\t",
  empty: "",
  looksLikeNumber: "007",
  int32Least: -(2 ** 31),
  int32Most: 2 ** 31 - 1,
  int64Least: -(2n ** 63n),
  int64Most: 2n ** 63n - 1n,
  yes: true,
  no: false,
  double: 0.1,
  doubleMost: Number.MAX_VALUE,
  time: new Date("2026-11-22T12:18:00.123Z"),
  binary: Uint8Array.from({ length: 256 }, (_, n) => n),
  binaryEmpty: new Uint8Array(),
};
// What JavaScript has no value of its own for, in the client's typed form.
const TYPED = {
  nan: { type: "Double", value: "NaN" },
  infinity: { type: "Double", value: "Infinity" },
  sevenDigits: { type: "DateTime", value: "2026-11-22T12:18:00.1234567Z" },
  guid: { type: "Guid", value: "c9da6455-213d-42c9-9a79-3e9149a57833" },
};

const service = () => TableServiceClient.fromConnectionString(CONNECTION, OPTIONS);
const client = (name) => TableClient.fromConnectionString(CONNECTION, name, OPTIONS);
const row = (partitionKey, rowKey, values) => ({ partitionKey, rowKey, ...values });

async function fresh() {
  const name = `t${randomUUID().replaceAll("-", "")}`;
  await service().createTable(name);
  return client(name);
}

/** A row without what the server adds. */
function stripped({ etag, timestamp, ...values }) {
  for (const name of Object.keys(values)) {
    if (name.startsWith("odata.")) delete values[name];
    if (values[name] instanceof Uint8Array) values[name] = Uint8Array.from(values[name]);
  }
  return values;
}

async function all(pages) {
  const found = [];
  for await (const one of pages) found.push(one);
  return found;
}

const keys = async (table, filter) =>
  (await all(table.listEntities({ queryOptions: { filter } }))).map((one) => one.rowKey);

const fails = (promise, statusCode, code) =>
  assert.rejects(promise, (err) => {
    assert.equal(err.statusCode, statusCode, String(err));
    if (code !== undefined) assert.equal(err.code ?? err.details?.odataError?.code, code);
    return true;
  });

test("a table is created once, listed and deleted", async () => {
  const table = await fresh();
  // The client takes a table that is there already for one that it made.
  await service().createTable(table.tableName);
  const filter = odata`TableName eq ${table.tableName}`;
  const names = async (options) => (await all(service().listTables(options))).map((one) => one.name);
  assert.deepEqual(await names({ queryOptions: { filter } }), [table.tableName]);
  assert.ok((await names()).includes(table.tableName));
  await service().deleteTable(table.tableName);
  assert.deepEqual(await names({ queryOptions: { filter } }), []);
  await fails(table.getEntity("p", "r"), 404, "TableNotFound");
});

test("every type comes back exactly, by every write", async () => {
  const table = await fresh();
  await table.createEntity(row("p", "insert", VALUES));
  await table.upsertEntity(row("p", "replace", VALUES), "Replace");
  await table.upsertEntity(row("p", "merge", VALUES), "Merge");
  await table.submitTransaction([["create", row("p", "transaction", VALUES)]]);
  for (const key of ["insert", "replace", "merge", "transaction"]) {
    const { guid, ...found } = stripped(await table.getEntity("p", key));
    assert.deepEqual(found, row("p", key, VALUES));
    assert.equal(guid, undefined);
  }
  for (const found of await all(table.listEntities())) assert.deepEqual(stripped(found), row("p", found.rowKey, VALUES));
});

test("typed values come back with their types", async () => {
  const table = await fresh();
  await table.createEntity(row("p", "r", { ...TYPED, whole: { type: "Double", value: "1.0" } }));
  const found = await table.getEntity("p", "r", { disableTypeConversion: true });
  for (const [name, value] of Object.entries(TYPED)) assert.deepEqual(found[name], value, name);
});

test("odd keys name their rows and no others", async () => {
  const table = await fresh();
  for (const key of KEYS) await table.createEntity(row(key, key, { text: key }));
  for (const key of KEYS) {
    assert.equal((await table.getEntity(key, key)).text, key);
    assert.deepEqual(await keys(table, odata`PartitionKey eq ${key} and RowKey eq ${key}`), [key]);
    await table.updateEntity(row(key, key, { more: 1 }), "Merge");
    await table.submitTransaction([["update", row(key, key, { more: 2 }), "Merge"]]);
    assert.deepEqual(stripped(await table.getEntity(key, key)), row(key, key, { text: key, more: 2 }));
    await table.deleteEntity(key, key);
  }
  assert.deepEqual(await all(table.listEntities()), []);
});

test("each write does what its name says", async () => {
  const table = await fresh();
  const found = async () => stripped(await table.getEntity("p", "r"));
  await table.createEntity(row("p", "r", { a: 1, b: 2 }));
  await fails(table.createEntity(row("p", "r")), 409, "EntityAlreadyExists");
  await table.updateEntity(row("p", "r", { b: 3 }), "Merge");
  assert.deepEqual(await found(), row("p", "r", { a: 1, b: 3 }));
  await table.updateEntity(row("p", "r", { c: 4 }), "Replace");
  assert.deepEqual(await found(), row("p", "r", { c: 4 }));
  await table.upsertEntity(row("p", "r", { d: 5 }), "Merge");
  assert.deepEqual(await found(), row("p", "r", { c: 4, d: 5 }));
  await table.upsertEntity(row("p", "r", { e: 6 }), "Replace");
  assert.deepEqual(await found(), row("p", "r", { e: 6 }));
  await table.deleteEntity("p", "r");
  for (const mode of ["Merge", "Replace"]) await fails(table.updateEntity(row("p", "r"), mode), 404);
  await fails(table.deleteEntity("p", "r"), 404);
  await fails(table.getEntity("p", "r"), 404, "ResourceNotFound");
});

test("a condition holds or is refused", async () => {
  const table = await fresh();
  const { etag: stale } = await table.createEntity(row("p", "r", { a: 1 }));
  const { etag: fresher } = await table.updateEntity(row("p", "r", { a: 2 }), "Replace", { etag: stale });
  assert.notEqual(stale, fresher);
  for (const mode of ["Merge", "Replace"]) {
    const update = table.updateEntity(row("p", "r", { a: 3 }), mode, { etag: stale });
    await fails(update, 412, "UpdateConditionNotSatisfied");
  }
  await fails(table.deleteEntity("p", "r", { etag: stale }), 412, "UpdateConditionNotSatisfied");
  const found = await table.getEntity("p", "r");
  assert.deepEqual([found.a, found.etag], [2, fresher]);
  await table.deleteEntity("p", "r", { etag: fresher });
});

test("filters find values of every type", async () => {
  const table = await fresh();
  await table.createEntity(row("p", "1", { ...VALUES, guid: TYPED.guid }));
  await table.createEntity(row("p", "2", { other: 1 }));
  for (const filter of [
    odata`text eq ${VALUES.text}`,
    odata`empty eq ${""}`,
    odata`int32Least eq ${-(2 ** 31)}`,
    "int64Most eq 9223372036854775807L",
    odata`yes eq ${true} and no eq ${false}`,
    odata`double lt ${0.2}`,
    odata`time eq ${VALUES.time}`,
    "binary eq X'" + Buffer.from(VALUES.binary).toString("hex") + "'",
    "guid eq guid'c9da6455-213d-42c9-9a79-3e9149a57833'",
    odata`(empty eq ${"x"} or text eq ${VALUES.text}) and not (int32Most lt 5)`,
  ]) {
    assert.deepEqual(await keys(table, filter), ["1"], filter);
  }
  await fails(keys(table, "other eq"), 400);
});

test("ranges are ordered by key and paged", async () => {
  const table = await fresh();
  const actions = Array.from({ length: 95 }, (_, n) => ["create", row("p", String(n).padStart(3, "0"), { n })]);
  await table.submitTransaction(actions);
  const range = "PartitionKey eq 'p' and RowKey ge '010' and RowKey lt '012'";
  assert.deepEqual(await keys(table, range), ["010", "011"]);
  for (const [filter, count] of [["PartitionKey eq 'p'", 95], ["n ge 90", 5]]) {
    const found = [];
    for await (const page of table.listEntities({ queryOptions: { filter } }).byPage({ maxPageSize: 10 })) {
      assert.ok(page.length <= 10);
      found.push(...page.map((one) => one.rowKey));
    }
    assert.equal(found.length, count);
    assert.deepEqual(found, found.toSorted());
  }
  const first = await table.listEntities().byPage({ maxPageSize: 40 }).next();
  assert.equal(first.value.length, 40);
  const { continuationToken } = first.value;
  const rest = await all(table.listEntities().byPage({ maxPageSize: 40, continuationToken }));
  assert.deepEqual(rest.map((page) => page.length), [40, 15]);
});

test("a selection has what was named", async () => {
  const table = await fresh();
  await table.createEntity(row("p", "r", { a: 1, b: "b" }));
  const [found] = await all(table.listEntities({ queryOptions: { filter: "b eq 'b'", select: ["a", "RowKey"] } }));
  assert.deepEqual([found.a, found.rowKey, found.b], [1, "r", undefined]);
});

test("a transaction is all or nothing, and names what failed", async () => {
  const table = await fresh();
  await table.createEntity(row("p", "there", { a: 1 }));
  const transaction = new TableTransaction();
  transaction.createEntity(row("p", "new", { a: 1 }));
  transaction.updateEntity(row("p", "there", { b: 2 }), "Merge");
  transaction.upsertEntity(row("p", "upserted", { c: 3 }), "Replace");
  transaction.upsertEntity(row("p", "gone", { d: 4 }));
  const done = await table.submitTransaction(transaction.actions);
  assert.equal(done.subResponses.length, 4);
  assert.equal(done.getResponseForEntity("new").etag, (await table.getEntity("p", "new")).etag);
  await table.submitTransaction([["delete", row("p", "gone")], ["update", row("p", "new", { e: 5 })]]);
  const standing = ["new", "there", "upserted"];
  assert.deepEqual(await keys(table), standing);
  const etag = "W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\"";
  for (const [fault, status, code] of [
    [["create", row("p", "there")], 409, "EntityAlreadyExists"],
    [["update", row("p", "missing"), "Replace"], 404, "ResourceNotFound"],
    [["update", row("p", "there"), "Replace", { etag }], 412, "UpdateConditionNotSatisfied"],
  ]) {
    const actions = [["create", row("p", "1")], ["create", row("p", "2")], fault, ["create", row("p", "3")]];
    await assert.rejects(table.submitTransaction(actions), (err) => {
      assert.deepEqual([err.statusCode, err.code], [status, code], String(err));
      assert.ok(err.message.startsWith("2:"), err.message);
      return true;
    });
    assert.deepEqual(await keys(table), standing);
  }
});

test("who has not the key is kept out", async () => {
  const credential = new AzureNamedKeyCredential(SETTINGS.AccountName, "d3Jvbmc=");
  const stranger = new TableServiceClient(SETTINGS.TableEndpoint, credential, OPTIONS);
  await fails(all(stranger.listTables()), 403);
});

test("a signature grants what it says", async () => {
  const table = await fresh();
  await table.createEntity(row("p", "r", { a: 1 }));
  const key = new AzureNamedKeyCredential(SETTINGS.AccountName, SETTINGS.AccountKey);
  for (const [permissions, granted] of [[{ query: true }, true], [{ add: true }, false]]) {
    const signature = generateTableSas(table.tableName, key, { permissions });
    const credential = new AzureSASCredential(signature);
    const reader = new TableClient(SETTINGS.TableEndpoint, table.tableName, credential, OPTIONS);
    if (granted) assert.equal((await reader.getEntity("p", "r")).a, 1);
    else await fails(reader.getEntity("p", "r"), 403);
  }
});
