// Keeps the usage, the crossings and the closed periods that Flowmeter publishes in a database of its own.
//
// `npm start` runs until it is stopped; `npm start usage` prints what it has stored.

import { fromBinary } from "@bufbuild/protobuf";
import { AckPolicy, jetstream, jetstreamManager, type JsMsg } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { setTimeout } from "node:timers/promises";

import { PeriodEventSchema, ThresholdCrossedSchema, UsageCountedSchema } from "./gen/flowmeter/v1/usage_pb.js";
import { Store } from "./store.js";
import { show } from "./table.js";

const RETRY_MS = 1_000;

// Each stream, and what stores its messages: both steps of a message, so that only the first may fail for good.
const TOPICS: Record<string, (store: Store, payload: Uint8Array) => () => void> = {
  FLOWMETER_USAGE_STATE: (store, payload) => {
    const usage = fromBinary(UsageCountedSchema, payload);
    return () => store.usage(usage);
  },
  FLOWMETER_THRESHOLDS: (store, payload) => {
    const crossing = fromBinary(ThresholdCrossedSchema, payload);
    return () => store.crossing(crossing);
  },
  FLOWMETER_PERIODS: (store, payload) => {
    const period = fromBinary(PeriodEventSchema, payload);
    return () => store.period(period);
  },
};

/** Reads one stream for ever, and begins again where it stopped whenever the broker fails. */
async function follow(connection: NatsConnection, user: string, stream: string, store: Store): Promise<never> {
  for (;;) {
    try {
      await read(connection, user, stream, store);
    } catch (error) {
      // A store that fails is not tried again: nothing may be acknowledged.
      if (store.failed) throw error;
      console.error(`${stream}: ${error}; trying again`);
    }
    await setTimeout(RETRY_MS);
  }
}

async function read(connection: NatsConnection, user: string, stream: string, store: Store): Promise<void> {
  // Its permissions name this consumer and no other. The broker keeps its place in the stream.
  const manager = await jetstreamManager(connection, { checkAPI: false });
  await manager.consumers.add(stream, { durable_name: user, ack_policy: AckPolicy.Explicit });
  const consumer = await jetstream(connection).consumers.get(stream, user);
  for await (const message of await consumer.consume()) {
    keep(message, stream, store);
  }
}

function keep(message: JsMsg, stream: string, store: Store): void {
  let write;
  try {
    write = TOPICS[stream]!(store, message.data);
  } catch (error) {
    // It will never be readable: do not ask for it again.
    console.error(`${message.subject}: ${error}`);
    message.term();
    return;
  }
  // Every message may come more than once: `store` recognises repeats. Acknowledged only after its commit.
  write();
  message.ack();
}

const store = new Store(process.env.SUBSCRIBER_DB ?? "subscriber.db");
if (process.argv[2] === "usage") {
  show(store);
} else {
  const { NATS_USER: user, NATS_PASSWORD: pass } = process.env;
  if (!user || !pass) throw new Error("set NATS_USER and NATS_PASSWORD: `flowmeter subscriber NAME` makes a user");
  const connection = await connect({
    servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222",
    user,
    pass,
    // The user may read only this inbox.
    inboxPrefix: `_INBOX_${user}`,
    maxReconnectAttempts: -1,
    waitOnFirstConnect: true,
  });
  await Promise.all(Object.keys(TOPICS).map((stream) => follow(connection, user, stream, store)));
}
