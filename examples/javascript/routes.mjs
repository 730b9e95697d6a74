// Which account of a region holds a row, by the routes that tablerelay has published there.
//
// Copy this file into the application, beside tablerelay-writer.mjs. A region with one account needs none of it.
//
//     // The application's own credentials; the endpoint is the published one.
//     const connect = (account, endpoint) => (table, options) => new TableClient(endpoint, table, credentials[account], options);
//     const first = (table, options) => TableClient.fromConnectionString(connectionString, table, options); // any account
//     const west = new RoutedRegion(first, connect);
//     const client = (await west.connection("orders", "customer-17"))("orders");
//     const writer = await west.writer("orders", "customer-17");
//     const row = await west.read("orders", "customer-17", "1"); // undefined where there is none; finds it wherever it is
//     await west.insert("orders", entity); // fails where the row is, wherever that is
//     await west.upsertMerge("orders", entity); // merges into the row, wherever it is
//     await west.replace("orders", entity, { etag }); // replaces the row that was read, wherever it was
//
// While rows move, and where routes go by their age, a row may stand elsewhere than where it is written. An upsert of the whole row and a
// delete are right everywhere. What depends on what stands there is so by these methods alone.

import { createHash } from "node:crypto";

import { Contended, Writer } from "./tablerelay-writer.mjs";

const SCHEMA = 1;
const ATTEMPTS = 8;
const RETRY_AFTER_MS = 5_000;

/** The region's routes could not be read for so long that rows may have moved since: a row that is not found may be elsewhere. */
export class RoutesAreOld extends Error {}

/** What stands of the row, at home or elsewhere, does not allow the write: as the service says it of a table, by its status. */
export class RowRefused extends Error {
  constructor(message, statusCode) {
    super(message);
    this.statusCode = statusCode;
  }
}

/** Reads the property Routes of the row ("routes", "current") of RelayControl, which stands in every account of a region. */
export function parseRoutes(text) {
  const routes = JSON.parse(text);
  if (routes.schema !== SCHEMA) throw new RangeError(`routes of schema ${routes.schema}: this program knows ${SCHEMA}`);
  return routes;
}

/** The account that holds a partition, and the name of the route that says so, or undefined where it is the spread. */
export function place(rules, table, partition) {
  // The most specific route is first.
  const route = rules.routes.find((each) => takes(each, table, partition));
  return { account: highest(route?.accounts ?? rules.spread, table, partition), route: route?.name };
}

/** Where else a row may be: where it was or is going to be while rows move, and where it is cold. In the order to read them. */
export function otherPlaces(routes, table, partition) {
  const { moving } = routes;
  const others = new Set([
    moving && place(moving, table, partition).account,
    coldPlace(routes, table, partition),
    moving && coldPlace(moving, table, partition),
  ]);
  others.delete(undefined);
  others.delete(place(routes, table, partition).account);
  return [...others];
}

/** The account that rows of a partition go to once they are old; undefined where no route says so. */
export function coldPlace(rules, table, partition) {
  const route = rules.aged?.find((each) => takes(each, table, partition));
  const account = route && highest(route.accounts, table, partition);
  return account === place(rules, table, partition).account ? undefined : account;
}

/** Rendezvous hashing: of several accounts, the one that scores highest together with the partition. */
export function highest(accounts, table, partition) {
  const score = (account) =>
    createHash("sha256").update(`${account}/${table.toLowerCase()}/${partition}`, "utf8").digest("hex");
  return accounts.map((account) => [score(account), account]).reduce((a, b) => (a[0] > b[0] ? a : b))[1];
}

function takes(route, table, partition) {
  if (route.tables && !route.tables.some((name) => name.toLowerCase() === table.toLowerCase())) return false;
  if (route.partition !== undefined) return partition === route.partition;
  if (route.partition_prefix !== undefined) return partition.startsWith(route.partition_prefix);
  if (route.partition_pattern !== undefined) {
    const parts = route.partition_pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    return new RegExp(`^${parts.join(".*")}$`, "su").test(partition);
  }
  return true;
}

async function get(client, partition, row) {
  try {
    return await client.getEntity(partition, row);
  } catch (err) {
    if (err.statusCode === 404) return undefined;
    throw err;
  }
}

async function readRoutes(connect) {
  return parseRoutes((await connect("RelayControl").getEntity("routes", "current")).Routes);
}

/**
 * The accounts of a region. `first` makes clients of any of them, as Writer takes it; `connect` makes such a function for another
 * account, by its name and its published endpoint. `options` are those of every Writer.
 */
export class RoutedRegion {
  #known;
  #heard = 0;
  #next = 0;
  #connections = new Map();
  #writers = new Map();

  constructor(first, connect, options = {}) {
    Object.assign(this, { first, connect, options });
  }

  /**
   * The routes in force, read again when they may soon be gone by no longer. Where they cannot be read, the last ones do for who writes:
   * what is written by old routes is found and brought to its place. Nothing at all is written by none.
   */
  async routes() {
    const [now, known] = [performance.now(), this.#known];
    if (known !== undefined && now < this.#next) return known;
    this.#next = now + RETRY_AFTER_MS; // one call reads them, and not again at once where that fails
    try {
      // What stands in the region's first account counts, which the others name.
      const copy = known ?? (await readRoutes(this.first));
      const read = await readRoutes(this.#connection(copy, copy.home));
      if (this.#known === undefined || this.#known.epoch <= read.epoch) {
        [this.#known, this.#heard, this.#next] = [read, now, now + read.hold_seconds * 500];
      }
      return this.#known;
    } catch (err) {
      if (known === undefined) throw err;
      return known;
    }
  }

  /** The same for who reads: by routes that are older than they may be, a row that has moved would be missed. */
  async freshRoutes() {
    const routes = await this.routes();
    if (performance.now() - this.#heard > routes.hold_seconds * 1_000) {
      throw new RoutesAreOld(`the routes of ${routes.region} could not be read of late`);
    }
    return routes;
  }

  /** What makes clients of the account that holds a partition. */
  async connection(table, partition) {
    const routes = await this.routes();
    return this.#connection(routes, place(routes, table, partition).account);
  }

  /** The Writer to the account that holds a partition. All of a process share one clock. */
  async writer(table, partition) {
    return this.#writer(await this.routes(), table, partition);
  }

  #writer(routes, table, partition) {
    const { account } = place(routes, table, partition);
    if (!this.#writers.has(account)) {
      const writer = new Writer(this.#connection(routes, account), routes.region, this.options);
      writer.clock = this.#writers.values().next().value?.clock ?? writer.clock;
      this.#writers.set(account, writer);
    }
    return this.#writers.get(account);
  }

  /**
   * A row, or undefined. It may be where other routes lead, while rows move, or in its cold place: what stands there counts unless it
   * was deleted at home, which has the last word, since the row may have moved between the reads.
   */
  async read(table, partition, row) {
    return (await this.#find(table, partition, row)).found;
  }

  /** Creates a row; fails with status 409 where it is there already. */
  async insert(table, entity) {
    const { found, home } = await this.#find(table, entity.partitionKey, entity.rowKey);
    if (found !== undefined) throw new RowRefused("the row exists already", 409);
    return home.insert(table, entity);
  }

  /** Merges properties into a row, or creates it. */
  async upsertMerge(table, entity) {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { found, atHome, home } = await this.#find(table, entity.partitionKey, entity.rowKey);
      try {
        // On its ETag: it may be on its way to its cold place.
        if (found !== undefined && atHome) {
          return await home.merge(table, entity, { etag: found.etag, over: found.RelayVersion });
        }
        return await home.insert(table, { ...found, ...entity });
      } catch (err) {
        if (![404, 409, 412].includes(err.statusCode)) throw err; // else somebody was faster: look again
      }
    }
    throw new Contended(`gave up after ${ATTEMPTS} attempts`);
  }

  /** Replaces a row, on its ETag where that is given; fails with status 404 where there is none, and 412 where it is another. */
  async replace(table, entity, { etag } = {}) {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { found, atHome, home } = await this.#find(table, entity.partitionKey, entity.rowKey);
      if (found === undefined) throw new RowRefused("there is no such row", 404);
      if (etag !== undefined && etag !== found.etag) throw new RowRefused("the row was changed since it was read", 412);
      try {
        const over = found.RelayVersion;
        if (atHome) return await home.replace(table, entity, { etag: found.etag, over });
        return await home.insert(table, { ...(over && { RelayVersion: over }), ...entity });
      } catch (err) {
        // Somebody was faster, maybe the mover, whose copy has another ETag: look again.
        if (![404, 409, 412].includes(err.statusCode)) throw err;
      }
    }
    throw new Contended(`gave up after ${ATTEMPTS} attempts`);
  }

  /** A row, whether it stands at home, and the Writer there. */
  async #find(table, partition, row) {
    const routes = await this.freshRoutes();
    const home = this.#writer(routes, table, partition);
    const others = otherPlaces(routes, table, partition);
    const here = await get(home.connect(table), partition, row);
    if (here !== undefined || others.length === 0) return { found: here, atHome: true, home };
    for (const other of others) {
      const there = await get(this.#connection(routes, other)(table), partition, row);
      if (there === undefined) continue;
      const stone = (await home.tombstones(table, partition, [row])).get(row);
      if (stone === undefined || stone.Version < (there.RelayVersion ?? "")) return { found: there, atHome: false, home };
    }
    return { found: await get(home.connect(table), partition, row), atHome: true, home };
  }

  #connection(routes, account) {
    if (!this.#connections.has(account)) {
      this.#connections.set(account, this.connect(account, routes.endpoints[account]));
    }
    return this.#connections.get(account);
  }
}
