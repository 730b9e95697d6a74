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
//
// Where routes go by the age of rows, what was read may stand in its cold place and not at home: change it by an upsert of the whole row.

import { createHash } from "node:crypto";

import { Writer } from "./tablerelay-writer.mjs";

const SCHEMA = 1;

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

/**
 * The accounts of a region. `first` makes clients of any of them, as Writer takes it; `connect` makes such a function for another
 * account, by its name and its published endpoint. `options` are those of every Writer.
 */
export class RoutedRegion {
  #known;
  #read;
  #connections = new Map();
  #writers = new Map();

  constructor(first, connect, options = {}) {
    Object.assign(this, { first, connect, options });
  }

  /** The routes in force, read again when they may be gone by no longer. Where they cannot be read, the last ones do. */
  async routes() {
    const now = performance.now();
    if (this.#known === undefined || now - this.#read > this.#known.hold_seconds * 500) {
      try {
        const row = await this.first("RelayControl").getEntity("routes", "current");
        [this.#known, this.#read] = [parseRoutes(row.Routes), now];
      } catch (err) {
        // What is written by old routes is found and brought to its place; nothing at all is written by none.
        if (this.#known === undefined) throw err;
      }
    }
    return this.#known;
  }

  /** What makes clients of the account that holds a partition. */
  async connection(table, partition) {
    const routes = await this.routes();
    return this.#connection(routes, place(routes, table, partition).account);
  }

  /** The Writer to the account that holds a partition. All of a process share one clock. */
  async writer(table, partition) {
    const routes = await this.routes();
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
    const routes = await this.routes();
    const home = await this.writer(table, partition);
    const others = otherPlaces(routes, table, partition);
    const here = await get(home.connect(table), partition, row);
    if (here !== undefined || others.length === 0) return here;
    for (const other of others) {
      const there = await get(this.#connection(routes, other)(table), partition, row);
      if (there === undefined) continue;
      const stone = (await home.tombstones(table, partition, [row])).get(row);
      if (stone === undefined || stone.Version < (there.RelayVersion ?? "")) return there;
    }
    return get(home.connect(table), partition, row);
  }

  #connection(routes, account) {
    if (!this.#connections.has(account)) {
      this.#connections.set(account, this.connect(account, routes.endpoints[account]));
    }
    return this.#connections.get(account);
  }
}
