"""Prints key and value of the first records of a topic, a line each: broker, topic, how many."""
import sys

from kafka import KafkaConsumer

broker, topic, count = sys.argv[1:]
consumer = KafkaConsumer(
    topic, bootstrap_servers=broker, group_id=None, auto_offset_reset="earliest", isolation_level="read_committed"
)
for _, record in zip(range(int(count)), consumer):
    print(record.key.decode(), record.value.decode(), sep="\t")
