// A cache-aside reader beside tablerelay: rows from Redis, and on a miss from the table, filled in through the script.
//
// A plain HSET after a miss could put back a row that was changed or deleted while the reader was on its way. The script
// (src/cache/refresh.lua of tablerelay; copy it beside the application) never replaces a newer version.
//
//     const reader = new CacheAside(tableClient, redisClient, await readFile("refresh.lua", "utf8"));
//     const row = await reader.get("customer-17", "1");

import { createHash } from "node:crypto";

// encodeURIComponent leaves five more characters than RFC 3986's unreserved ones.
const encoded = (part) =>
  encodeURIComponent(part).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

export const cacheKey = (table, partition, row) => [table.toLowerCase(), partition, row].map(encoded).join(":");

/**
 * A row's entry from the service's reply, as text: without ETag and Timestamp, and with the type of every Double said.
 *
 * A row is a flat object. Its values are taken over as the text that they are, since JSON.parse would make an Int32 of
 * the Double 1.0.
 */
export function entryOf(body) {
  const fields = new Map();
  for (const [, name, value] of body.matchAll(/("(?:[^"\\]|\\.)*")\s*:\s*("(?:[^"\\]|\\.)*"|[^\s,}]+)/g)) {
    fields.set(JSON.parse(name), value);
  }
  const entry = [];
  const add = (name) => entry.push(`${JSON.stringify(name)}:${fields.get(name)}`);
  const ours = ["PartitionKey", "RowKey", "RelayVersion"];
  ours.filter((name) => fields.has(name)).forEach(add);
  for (const [name, value] of fields) {
    const subject = name.replace(/@odata\.type$/, "");
    if (name.startsWith("odata.") || subject === "Timestamp" || ours.includes(subject)) continue;
    const type = `${name}@odata.type`;
    if (/^-?[0-9]+[.eE]/.test(value) && !fields.has(type)) entry.push(`${JSON.stringify(type)}:"Edm.Double"`);
    add(name);
  }
  return `{${entry.join(",")}}`;
}

/** `script` is the text of refresh.lua, `ttl` the time to live of what is filled in, in seconds. */
export class CacheAside {
  constructor(tableClient, redis, script, ttl = 3600) {
    Object.assign(this, { table: tableClient, redis, script, ttl });
    this.digest = createHash("sha1").update(script).digest("hex");
  }

  /** The row as the service's JSON says it, properties and their @odata.type, or undefined where there is none. */
  async get(partition, row) {
    const key = cacheKey(this.table.tableName, partition, row);
    const cached = await this.redis.hGet(key, "e");
    if (typeof cached === "string") return JSON.parse(cached);
    const text = await this.#read(partition, row);
    if (text === undefined) return undefined;
    const entry = JSON.parse(text);
    // A row that tablerelay has not stamped yet has no version to be guarded by: it is not cached.
    if (entry.RelayVersion !== undefined) await this.#fill(key, entry.RelayVersion, text);
    return entry;
  }

  async #fill(key, version, text) {
    const call = { keys: [key], arguments: ["fill", version, String(this.ttl * 1000), text] };
    try {
      await this.redis.evalSha(this.digest, call);
    } catch (err) {
      if (!String(err.message).startsWith("NOSCRIPT")) throw err;
      await this.redis.eval(this.script, call);
    }
  }

  async #read(partition, row) {
    let body;
    try {
      await this.table.getEntity(partition, row, { onResponse: (reply) => (body = reply.bodyAsText) });
    } catch (err) {
      if (err.statusCode === 404) return undefined;
      throw err;
    }
    return entryOf(body);
  }
}
