"""Prints key and value of the first records of a topic, a line each: broker, topic, how many."""
import sys

from confluent_kafka import Consumer

broker, topic, count = sys.argv[1:]
consumer = Consumer(
    {"bootstrap.servers": broker, "group.id": f"{topic}-confluent", "auto.offset.reset": "earliest"}
)
consumer.subscribe([topic])
for _ in range(int(count)):
    record = consumer.poll(60)
    print(record.key().decode(), record.value().decode(), sep="\t")
