"""Adds a topic up and prints one number, that of `rollcall verify --digest`: python3 fold.py BROKER TOPIC (pip install confluent-kafka)"""
import hashlib, json, sys
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "fold", "enable.partition.eof": True})
partitions = consumer.list_topics(sys.argv[2]).topics[sys.argv[2]].partitions
consumer.assign([TopicPartition(sys.argv[2], partition, OFFSET_BEGINNING) for partition in partitions])
told, under, left = {}, {}, len(partitions)  # what holds, what was said under which key, partitions not read to their ends
while left:
    record = consumer.poll(60)
    left -= record.error() is not None  # the end of a partition
    if not record.error() and record.value() is None:  # a tombstone takes away what was said under its key
        [told.pop(said, None) for said in under.pop(record.key(), ())]
    elif not record.error():
        event = json.loads(record.value(), parse_float=str)
        key, person = event["context"]["personas"]["computation_key"], event.get("userId") or event["anonymousId"]
        for name, value in event["traits"].items() if key not in event["traits"] else [(key, event["traits"][key])]:
            told[person, name] = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            under.setdefault(record.key(), set()).add((person, name))
terms = ("\0".join((*said, value)) for said, value in told.items() if value not in ("false", "null"))
print(f"{sum(int.from_bytes(hashlib.sha256(term.encode()).digest()[:16], 'big') for term in terms) % 2**128:032x}")
