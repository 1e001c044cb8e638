//! Delivery against a real Apache Kafka.

use crate::support::kafka;

#[test]
fn the_real_broker_starts_and_serves_a_topic() {
    let broker = kafka::broker();
    let topic = kafka::topic(broker, "smoke", 3);
    assert_eq!(kafka::read_committed(broker, &topic), []);
}
