"""Sends mixed calls with Segment's own library for Python: python3 send.py HOST WRITE_KEY NAME COUNT

Fails unless every call was delivered, as far as the library says.
"""
import datetime
import sys

from segment.analytics.client import Client

host, write_key, name, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
failed = []
client = Client(
    write_key,
    host=host,
    gzip=True,
    max_queue_size=1_000_000,
    upload_size=250,
    upload_interval=0.2,
    thread=2,
    max_retries=50,
    on_error=lambda error, items: failed.append(error),
)


def send(n):
    user = f"u{n % 1000}"
    start = datetime.datetime(2024, 5, 1, tzinfo=datetime.timezone.utc)
    common = {"message_id": f"{name}-{n}", "timestamp": start + datetime.timedelta(seconds=n % 86400)}
    match n % 10:
        case 0:
            client.identify(user, {name: True}, **common)
        case 1:
            client.page(user, None, "Home", {"n": n}, **common)
        case 2:
            client.screen(user, None, "Main", {"n": n}, **common)
        case 3:
            client.group(user, f"g{n % 7}", {}, **common)
        case 4:
            client.alias(f"visitor-{n}", user, message_id=common["message_id"])
        case _:
            client.track(user, "Order Completed", {"revenue": 1, "n": n}, **common)


for n in range(count):
    send(n)
    # One in ten a second time.
    if n % 10 == 7:
        send(n)
client.shutdown()
for error in failed[:5]:
    print(error, file=sys.stderr)
sys.exit(1 if failed else 0)
