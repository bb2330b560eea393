"""Keeps the usage, the crossings and the closed periods that Flowmeter publishes in a database of its own.

`python subscriber.py` runs until it is stopped; `python subscriber.py usage` prints what it has stored.
"""

import asyncio
import os
import sqlite3
import sys

import nats
from google.protobuf.message import DecodeError
from nats.errors import Error as NatsError

import store
import table
from flowmeter.v1.usage_pb2 import PeriodEvent, ThresholdCrossed, UsageCounted

# Each stream, its message, and the function that stores one. All of them recognise repeats.
TOPICS = {
    "FLOWMETER_USAGE_STATE": (UsageCounted, store.usage),
    "FLOWMETER_THRESHOLDS": (ThresholdCrossed, store.crossing),
    "FLOWMETER_PERIODS": (PeriodEvent, store.period),
}
BATCH = 100
RETRY_SECONDS = 1


async def follow(jetstream, user: str, stream: str, database: sqlite3.Connection) -> None:
    """Reads one stream for ever, and begins again where it stopped whenever the broker fails."""
    while True:
        try:
            await read(jetstream, user, stream, database)
        except (NatsError, TimeoutError, OSError) as error:
            print(f"{stream}: {error!r}; trying again", file=sys.stderr)
            await asyncio.sleep(RETRY_SECONDS)


async def read(jetstream, user: str, stream: str, database: sqlite3.Connection) -> None:
    message_type, keep = TOPICS[stream]
    # Its permissions name this consumer and no other. The broker keeps its place in the stream.
    consumer = await jetstream.pull_subscribe("", durable=user, stream=stream)
    try:
        while True:
            try:
                messages = await consumer.fetch(BATCH)
            except TimeoutError:  # Nothing new. Also that of the client, which is derived from it.
                continue
            for message in messages:
                try:
                    decoded = message_type.FromString(message.data)
                except DecodeError as error:
                    # It will never be readable: do not ask for it again.
                    print(f"{message.subject}: {error}", file=sys.stderr)
                    await message.term()
                    continue
                with database:  # One transaction, committed before the acknowledgement.
                    keep(database, decoded)
                await message.ack()
    finally:
        await consumer.unsubscribe()


async def main() -> None:
    database = store.connect(os.environ.get("SUBSCRIBER_DB", "subscriber.db"))
    if sys.argv[1:] == ["usage"]:
        table.show(database)
        return
    user, password = os.environ["NATS_USER"], os.environ["NATS_PASSWORD"]

    async def report(error: Exception) -> None:
        print(f"NATS: {error!r}", file=sys.stderr)

    client = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=user,
        password=password,
        # The user may read only this inbox.
        inbox_prefix=f"_INBOX_{user}",
        max_reconnect_attempts=-1,
        error_cb=report,
    )
    jetstream = client.jetstream()
    await asyncio.gather(*(follow(jetstream, user, stream, database) for stream in TOPICS))


if __name__ == "__main__":
    asyncio.run(main())
