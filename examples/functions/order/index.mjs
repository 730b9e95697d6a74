// An Azure Function that writes a row through one output binding and announces it through another.
//
// The queue must be in the storage account of the table. The announcement is the queue form of the protocol: handy, but a
// function that dies before the host has sent the message has written a row that nobody is told of, until a verify finds
// it. Where that will not do, write through tablerelay-writer.mjs instead of the bindings. A binding cannot update or
// delete a row either.
//
// In a function app, copy tablerelay-writer.mjs beside this file.

import { Clock, queueMessage } from "../../javascript/tablerelay-writer.mjs";

// One per process, since versions must rise; every instance of the function draws a writer id of its own.
const clock = new Clock(process.env.TABLERELAY_REGION ?? "westeurope");

export default async function order(context, request) {
  const { customer, id, ...order } = request.body;
  const version = clock.issue();
  context.bindings.row = { PartitionKey: customer, RowKey: id, ...order, RelayVersion: version };
  context.bindings.change = queueMessage({ table: "orders", partition: customer, puts: [id], version });
  context.bindings.response = { status: 202, body: { version } };
}
