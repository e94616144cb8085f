"""Reads event topics as a team of another language would: Confluent's client and Avro, none of our code.

Prints one JSON object a line for each event: topic, key, headers, framing, and the event's columns.
Ends when as many events as asked for were read; fails when that takes too long.
"""

import argparse
import datetime
import io
import json
import sys
import time

import fastavro
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

CONFLUENT = "application/vnd.confluent.avro"
SINGLE_OBJECT = "application/avro"


def crc_64_avro(text: bytes) -> int:
    """The fingerprint of a schema in canonical form, written out from the Avro specification."""
    empty = 0xC15D213AA4D7A795
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value >> 1) ^ (empty & -(value & 1))
        table.append(value)
    result = empty
    for byte in text:
        result = (result >> 8) ^ table[(result ^ byte) & 0xFF]
    return result


class SingleObject:
    """Avro's single-object encoding, read with the schema file that the producer publishes."""

    def __init__(self, path: str):
        with open(path, encoding="utf-8") as file:
            schema = json.load(file)
        self.schema = fastavro.parse_schema(schema)
        canonical = fastavro.schema.to_parsing_canonical_form(schema).encode()
        self.fingerprint = crc_64_avro(canonical).to_bytes(8, "little")

    def __call__(self, value: bytes, _topic: str) -> dict:
        if value[:2] != b"\xc3\x01":
            raise ValueError("the marker C3 01 is missing")
        if value[2:10] != self.fingerprint:
            raise ValueError(f"fingerprint {value[2:10].hex()}, expected {self.fingerprint.hex()}")
        rest = io.BytesIO(value[10:])
        event = fastavro.schemaless_reader(rest, self.schema)
        if rest.read():
            raise ValueError("bytes follow the event")
        return event


class Registered:
    """Confluent's framing, with the schema that the registry gives for the id in the value."""

    def __init__(self, url: str):
        # Without a timeout the client waits for ever for an answer that was lost; with one it asks again.
        self.deserialize = AvroDeserializer(SchemaRegistryClient({"url": url, "timeout": 10}))

    def __call__(self, value: bytes, topic: str) -> dict:
        return self.deserialize(value, SerializationContext(topic, MessageField.VALUE))


def plain(value):
    """Times as milliseconds since 1970, as they stand on the wire."""
    if isinstance(value, datetime.datetime):
        return round(value.timestamp() * 1000)
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--prefix", required=True, help="topics whose names begin so are read")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--schema", required=True, help="the schema file, for single-object encoding")
    parser.add_argument("--registry", help="the registry's address, for Confluent's framing")
    parser.add_argument("--seconds", type=float, default=180)
    arguments = parser.parse_args()

    readers = {SINGLE_OBJECT: SingleObject(arguments.schema)}
    if arguments.registry:
        readers[CONFLUENT] = Registered(arguments.registry)
    consumer = Consumer(
        {
            "bootstrap.servers": arguments.bootstrap,
            "group.id": "python-readers",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            # Without it, records of transactions that were given up would be read too.
            "isolation.level": "read_committed",
        }
    )
    topics = consumer.list_topics(timeout=20).topics
    wanted = [
        TopicPartition(name, partition, 0)
        for name, topic in topics.items()
        if name.startswith(arguments.prefix)
        for partition in topic.partitions
    ]
    consumer.assign(wanted)
    read = 0
    end = time.monotonic() + arguments.seconds
    while read < arguments.count:
        if time.monotonic() > end:
            print(f"read {read} of {arguments.count} events in {arguments.seconds} s", file=sys.stderr)
            return 1
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF:
                continue
            raise RuntimeError(message.error())
        headers = {name: value.decode() for name, value in message.headers() or []}
        framing = headers.get("content-type")
        event = readers[framing](message.value(), message.topic())
        print(
            json.dumps(
                {
                    "topic": message.topic(),
                    "key": (message.key() or b"").hex(),
                    "framing": framing,
                    "headers": headers,
                    "event": {name: plain(value) for name, value in event.items()},
                }
            )
        )
        read += 1
    consumer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
