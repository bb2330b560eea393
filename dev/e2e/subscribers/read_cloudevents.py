"""Reads every crossing and period as a CloudEvent with the library `cloudevents` of PyPI, and prints each as a line of JSON.

`cargo xtask e2e subscribers` runs this. It needs in the environment: PYTHONPATH (the folder with the packages), NATS_URL,
NATS_USER and NATS_PASSWORD.
"""

import asyncio
import json
import os

import nats
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event

STREAMS = ["FLOWMETER_CLOUDEVENTS_THRESHOLDS", "FLOWMETER_CLOUDEVENTS_PERIODS"]


async def main() -> None:
    user = os.environ["NATS_USER"]
    client = await nats.connect(
        os.environ["NATS_URL"], user=user, password=os.environ["NATS_PASSWORD"], inbox_prefix=f"_INBOX_{user}"
    )
    jetstream = client.jetstream()
    for stream in STREAMS:
        consumer = await jetstream.pull_subscribe("", durable=user, stream=stream)
        for _ in range((await consumer.consumer_info()).num_pending):
            [message] = await consumer.fetch(1)
            event = from_structured_event(HTTPMessage(headers=dict(message.headers), body=message.data))
            attributes = {name: str(value) for name, value in event.get_attributes().items()}
            print(json.dumps({**attributes, "data": event.get_data()}))
            await message.ack_sync()
    await client.close()


asyncio.run(main())
