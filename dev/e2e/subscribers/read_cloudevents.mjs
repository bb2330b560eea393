// Reads every crossing and period as a CloudEvent with the library `cloudevents` of npm, and prints each as a line of JSON.
//
// `cargo xtask e2e subscribers` runs this. It needs in the environment: TOOLS (the folder whose node_modules have
// cloudevents), EXAMPLE (the one whose node_modules have NATS' client), NATS_URL, NATS_USER and NATS_PASSWORD.

import { createRequire } from "node:module";

const { TOOLS, EXAMPLE, NATS_URL, NATS_USER, NATS_PASSWORD } = process.env;
const { CloudEvent, HTTP } = createRequire(`${TOOLS}/`)("cloudevents");
const example = createRequire(`${EXAMPLE}/`);
const { connect } = example("@nats-io/transport-node");
const { AckPolicy, jetstream, jetstreamManager } = example("@nats-io/jetstream");

const STREAMS = ["FLOWMETER_CLOUDEVENTS_THRESHOLDS", "FLOWMETER_CLOUDEVENTS_PERIODS"];

const connection = await connect({
  servers: NATS_URL,
  user: NATS_USER,
  pass: NATS_PASSWORD,
  inboxPrefix: `_INBOX_${NATS_USER}`,
});
const manager = await jetstreamManager(connection, { checkAPI: false });
for (const stream of STREAMS) {
  const { num_pending: stored } = await manager.consumers.add(stream, {
    durable_name: NATS_USER,
    ack_policy: AckPolicy.Explicit,
  });
  const consumer = await jetstream(connection).consumers.get(stream, NATS_USER);
  for (let read = 0; read < stored; read++) {
    const message = await consumer.next();
    const headers = Object.fromEntries(message.headers.keys().map((name) => [name, message.headers.get(name)]));
    if (!HTTP.isEvent({ headers, body: message.string() })) throw new Error(`${message.subject} is no CloudEvent`);
    const event = HTTP.toEvent({ headers, body: message.string() });
    if (!(event instanceof CloudEvent) || !event.validate()) throw new Error(`${message.subject} is not valid`);
    console.log(JSON.stringify(event));
    await message.ackAck();
  }
}
await connection.close();
