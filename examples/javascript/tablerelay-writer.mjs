// Writes to Azure Table Storage so that tablerelay replicates it: announce first, then write.
//
// Copy this file into the application; it needs @azure/data-tables alone, through the function that makes its clients.
// It follows part 3 of the change-feed protocol.
//
//     const connect = (table, options) => TableClient.fromConnectionString(connectionString, table, options);
//     const writer = new Writer(connect, "westeurope");      // one per process
//     await writer.upsert("orders", { partitionKey: "customer-17", rowKey: "1", total: 12.5 });
//     const row = await connect("orders").getEntity("customer-17", "1");
//     await writer.replace("orders", { ...row, total: 13 }, { etag: row.etag });
//     await writer.delete("orders", "customer-17", "1");
//
// A RestError of the SDK passes through where the store refused the write, so a 409 or 412 is caught as ever. The others
// are UnknownOutcome, AheadOfClock, Contended.

import { createHash, randomBytes } from "node:crypto";

const FEED = "RelayFeed";
const PROPERTY = "RelayVersion";
const [MAX_ROWS, MAX_DELETES, MAX_UNITS] = [100, 99, 30_000];
const ATTEMPTS = 8;
const VERSION =
  /^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\.([0-9]{7})Z@[a-z0-9-]{1,24}\.[0-9a-f]{8}$/;

/** The write was not seen when it was read back, but may still take effect; it is announced in any case. */
export class UnknownOutcome extends Error {
  constructor(version, cause) {
    super(`the outcome of the write with version ${version} is unknown`, { cause });
    this.version = version;
  }
}

/** A row has a version further ahead of this clock than the allowed skew: check both clocks. */
export class AheadOfClock extends Error {}

/** The store was too slow for half the settle window, or others deleted the same rows over and over. */
export class Contended extends Error {}

/** A tombstone is there that was not known: take a version above it. */
class TombstoneStands extends Error {}

// Versions

/** The time of a version in ticks of 100 ns since 1970, or undefined where the text is no version. */
export function ticksOf(version) {
  const match = typeof version === "string" ? VERSION.exec(version) : null;
  if (match === null) return undefined;
  const date = new Date(`${match[1]}Z`);
  // Date lets the 31st of February, the 24th hour and the year 0 pass.
  if (match[1].startsWith("0000") || Number.isNaN(date.getTime()) || date.toISOString().slice(0, 19) !== match[1]) return undefined;
  return BigInt(date.getTime()) * 10_000n + BigInt(match[2]);
}

export const isVersion = (text) => ticksOf(text) !== undefined;

/** The highest version among pairs of a version and the row that has it; what is none does not count. */
function highest(pairs) {
  // Versions are ASCII, for which the order of JavaScript's strings is that of their bytes.
  return pairs.reduce((most, pair) => (isVersion(pair[0]) && !(most[0] >= pair[0]) ? pair : most), []);
}

/** A hybrid clock: versions rise with the time, with each other, and above what is overwritten. */
export class Clock {
  #last = 0n;

  constructor(region, { maxClockSkew = 60, writer = randomBytes(4).toString("hex"), now = wallClock } = {}) {
    if (!/^[a-z0-9-]{1,24}$/.test(region)) {
      throw new RangeError(`${region} is no region: it should be 1 to 24 characters of a-z, 0-9 and -`);
    }
    Object.assign(this, { region, writer, now, skew: BigInt(Math.round(maxClockSkew * 1e7)) });
  }

  issue(over, row) {
    const [now, floor] = [this.now(), ticksOf(over)];
    if (floor !== undefined && floor > now + this.skew) {
      throw new AheadOfClock(`row ${row} has version ${over}, ${(floor - now) / 10_000n} ms ahead of this clock`);
    }
    const least = [now, this.#last + 1n, floor === undefined ? now : floor + 1n];
    this.#last = least.reduce((a, b) => (a > b ? a : b));
    const [seconds, ticks] = [this.#last / 10_000_000n, this.#last % 10_000_000n];
    const time = new Date(Number(seconds) * 1_000).toISOString().slice(0, 19);
    return `${time}.${String(ticks).padStart(7, "0")}Z@${this.region}.${this.writer}`;
  }
}

const wallClock = () => BigInt(Date.now()) * 10_000n;

// The feed: records and tombstones

const sha = (text) => createHash("sha256").update(text, "utf8").digest("hex");

export const shard = (table, partition) =>
  (parseInt(sha(`${table.toLowerCase()}/${partition}`).slice(0, 2), 16) % 16).toString(16).padStart(2, "0");

export const tombstoneKey = (table, partition, row) =>
  `t:${sha(`${table.toLowerCase()}/${partition}`).slice(0, 32)}:${sha(row).slice(0, 32)}`;

/** The records that announce a change, each with its deletes; more than one where one does not hold it all. */
export function records({ table, partition, puts, deletes, version, base }, first = 0) {
  const parts = [{ puts: [], deletes: [] }];
  const rows = [...puts.map((row) => ["puts", row]), ...deletes.map((row) => ["deletes", row])];
  for (const [list, row] of rows) {
    const part = parts.at(-1);
    const full =
      part.puts.length + part.deletes.length === MAX_ROWS ||
      (list === "deletes" && part.deletes.length === MAX_DELETES) ||
      JSON.stringify([...part[list], row]).length > MAX_UNITS;
    if (full) parts.push({ puts: [], deletes: [] });
    parts.at(-1)[list].push(row);
  }
  return parts.map((part, index) => ({
    deletes: part.deletes,
    record: {
      partitionKey: shard(table, partition),
      rowKey: `c:${version}${first + index === 0 ? "" : `~${first + index}`}`,
      Table: table,
      Partition: partition,
      Puts: JSON.stringify(part.puts),
      Deletes: JSON.stringify(part.deletes),
      Version: version,
      ...(base && { Base: base }),
    },
  }));
}

export const tombstone = (table, partition, row, version) => ({
  partitionKey: shard(table, partition),
  rowKey: tombstoneKey(table, partition, row),
  Table: table,
  Partition: partition,
  Row: row,
  Version: version,
});

/** The queue form, for what writes through an Azure Functions binding: sent after the write, and less safe. */
export const queueMessage = ({ table, partition, puts = [], deletes = [], version }) =>
  JSON.stringify({ table, partition, puts, deletes, version });

// The writer

/**
 * `settleWindow` and `maxClockSkew`, in seconds, must be those of tablerelay's configuration.
 *
 * `lookAtTombstones`: whether a write that may create a row reads its tombstone first, to be above it. Without that, an
 * insert after a delete from a region whose clock is ahead would lose.
 */
export class Writer {
  #clients = new Map();

  constructor(connect, region, { settleWindow = 60, maxClockSkew = 60, lookAtTombstones = true } = {}) {
    this.clock = new Clock(region, { maxClockSkew });
    this.half = Math.floor(settleWindow * 500); // a time-out takes whole milliseconds
    this.lookAtTombstones = lookAtTombstones;
    this.connect = connect;
    this.feed = connect(FEED, { retryOptions: { maxRetries: 2, maxRetryDelayInMs: 2_000 } });
  }

  insert(table, entity) {
    return this.write(table, [["create", entity]]);
  }

  upsert(table, entity, { over } = {}) {
    return this.write(table, [["upsert", entity, "Replace"]], { over });
  }

  upsertMerge(table, entity, { over } = {}) {
    return this.write(table, [["upsert", entity, "Merge"]], { over });
  }

  replace(table, entity, { etag = "*", over } = {}) {
    return this.write(table, [["update", entity, "Replace", { etag }]], { over });
  }

  merge(table, entity, { etag = "*", over } = {}) {
    return this.write(table, [["update", entity, "Merge", { etag }]], { over });
  }

  delete(table, partitionKey, rowKey, { etag = "*", over } = {}) {
    return this.write(table, [["delete", { partitionKey, rowKey }, undefined, { etag }]], { over });
  }

  /** Actions as TableClient.submitTransaction takes them, all of one partition. */
  transaction(table, actions, { over } = {}) {
    return this.write(table, actions, { over, transaction: true });
  }

  /** `over` is the version of the row that was read, where the entity does not carry it: be above it. */
  async write(table, actions, { over, transaction = false } = {}) {
    const partition = actions[0][1].partitionKey;
    const keys = (chosen) => actions.filter(chosen).map(([, entity]) => entity.rowKey);
    const change = { table, partition, puts: keys(([kind]) => kind !== "delete"), deletes: keys(isDelete) };
    const read = actions.map(([, entity]) => [entity[PROPERTY], entity.rowKey]);
    let floor = highest([[over, read[0][1]], ...read]);
    if (actions.length === 1) change.base = floor[0];
    let standing = new Map();
    if (this.lookAtTombstones) {
      const creates = keys(([kind]) => kind === "create" || kind === "upsert");
      floor = highest([floor, ...versions(await this.tombstones(table, partition, creates))]);
    }
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const began = performance.now();
      change.version = this.clock.issue(...floor);
      const announced = await this.#announce(change, standing);
      if (announced !== undefined && performance.now() - began < this.half) {
        return this.#write(change, actions, announced, began, transaction);
      }
      standing = await this.tombstones(table, partition, change.deletes);
      floor = highest([floor, ...versions(standing)]);
    }
    throw new Contended(`gave up after ${ATTEMPTS} announcements`);
  }

  async #write(change, actions, announced, began, transaction) {
    const { table, version } = change;
    // Sent once: what became of it is read back.
    const client = this.#client(table);
    const stamped = actions.map(([kind, entity, ...rest]) => [kind, stamp(kind, entity, version), ...rest]);
    let [replies, unknown] = [undefined, undefined];
    try {
      replies = await send(client, stamped, transaction, { abortSignal: AbortSignal.timeout(this.half) });
    } catch (err) {
      const gone = !transaction && isDelete(actions[0]) && err.statusCode === 404 && errorCode(err) !== "TableNotFound";
      if (!gone && err.statusCode >= 400 && err.statusCode < 500 && err.statusCode !== 408) {
        await this.#withdraw(announced); // the first and only attempt was refused: nothing was written
        throw err;
      }
      if (!gone && !(await this.#isWritten(client, stamped, version))) unknown = err;
    }
    if (performance.now() - began > this.half) {
      // So late, the daemon may have looked for the last time before the write took effect.
      for (const { record } of records(change, announced.length)) await this.#insert(record, [["create", record]]);
    }
    if (unknown !== undefined) throw new UnknownOutcome(version, unknown);
    return { version, replies };
  }

  /** Whether the rows show that the write took effect. A transaction is all or nothing: one row proves it. */
  async #isWritten(client, actions, version) {
    try {
      const found = [];
      for (const [kind, { partitionKey, rowKey }] of actions) {
        found.push([kind, await this.#get(client, partitionKey, rowKey)]);
      }
      const puts = found.filter((pair) => !isDelete(pair));
      return puts.length > 0
        ? puts.some(([, row]) => row?.[PROPERTY] === version)
        : found.every(([, row]) => row === undefined);
    } catch {
      return false;
    }
  }

  /** Inserts the records, each with the tombstones of its deletes; undefined where a tombstone is in the way. */
  async #announce(change, standing) {
    const { table, partition, version } = change;
    const keys = [];
    for (const { record, deletes } of records(change)) {
      const stones = deletes.map((row) => {
        const stone = tombstone(table, partition, row, version);
        const known = standing.get(row);
        return known ? ["update", stone, "Replace", { etag: known.etag }] : ["create", stone];
      });
      try {
        await this.#insert(record, [["create", record], ...stones]);
      } catch (err) {
        if (err instanceof TombstoneStands) return undefined;
        throw err;
      }
      keys.push([record.partitionKey, record.rowKey]);
    }
    return keys;
  }

  /** Inserts a record, and again where the outcome is unknown: nobody else has its key. */
  async #insert(record, actions) {
    for (let triesLeft = 2; ; triesLeft--) {
      try {
        await send(this.feed, actions, actions.length > 1, { abortSignal: AbortSignal.timeout(Math.floor(this.half / 3)) });
        return;
      } catch (err) {
        if ((await this.#get(this.feed, record.partitionKey, record.rowKey)) !== undefined) return;
        if ([404, 409, 412].includes(err.statusCode) && errorCode(err) !== "TableNotFound") {
          throw new TombstoneStands("a tombstone stands there", { cause: err });
        }
        if ((err.statusCode >= 400 && err.statusCode < 500) || triesLeft === 0) throw err;
      }
    }
  }

  async #withdraw(keys) {
    for (const [partition, row] of keys) {
      // A record that is left behind costs a wait in Last Sync Time, nothing else.
      await this.feed.deleteEntity(partition, row).catch(() => {});
    }
  }

  /** The tombstones that stand there, by row key. */
  async tombstones(table, partition, rows) {
    const wanted = new Map(rows.map((row) => [tombstoneKey(table, partition, row), row]));
    const keys = [...wanted.keys()].sort();
    const part = shard(table, partition);
    const found = [];
    if (keys.length <= 3) {
      for (const key of keys) found.push(await this.#get(this.feed, part, key));
    } else {
      // Keys of tombstones are made of hex digits: nothing in them has to be escaped.
      const filter = `PartitionKey eq '${part}' and RowKey ge '${keys[0]}' and RowKey le '${keys.at(-1)}'`;
      for await (const stone of this.feed.listEntities({ queryOptions: { filter } })) found.push(stone);
    }
    return new Map(
      found.filter((stone) => stone && wanted.has(stone.rowKey)).map((stone) => [wanted.get(stone.rowKey), stone]),
    );
  }

  async #get(client, partition, row) {
    try {
      return await client.getEntity(partition, row, { abortSignal: AbortSignal.timeout(this.half) });
    } catch (err) {
      if (err.statusCode === 404) return undefined;
      throw err;
    }
  }

  #client(table) {
    if (!this.#clients.has(table)) this.#clients.set(table, this.connect(table, { retryOptions: { maxRetries: 0 } }));
    return this.#clients.get(table);
  }
}

const isDelete = ([kind]) => kind === "delete";

const versions = (tombstones) => [...tombstones].map(([row, stone]) => [stone.Version, row]);

const errorCode = (err) => err.code ?? err.details?.odataError?.code;

/** What is sent of an entity: without what the service said about it when it was read. */
function stamp(kind, { etag, timestamp, "odata.metadata": _, ...entity }, version) {
  return kind === "delete" ? entity : { ...entity, [PROPERTY]: version };
}

/** Sends actions as one transaction, or the single action that it is. */
async function send(client, actions, transaction, options) {
  if (transaction) return client.submitTransaction(actions, options);
  const [[kind, entity, mode, given]] = actions;
  const all = { ...options, ...given };
  switch (kind) {
    case "create":
      return [await client.createEntity(entity, all)];
    case "update":
      return [await client.updateEntity(entity, mode, all)];
    case "upsert":
      return [await client.upsertEntity(entity, mode, all)];
    default:
      return [await client.deleteEntity(entity.partitionKey, entity.rowKey, all)];
  }
}
