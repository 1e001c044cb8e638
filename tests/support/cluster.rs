//! Three Apache Kafka brokers, each a controller too: what leaders, coordinators and replicas are about.

use std::thread;

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use super::kafka::{self, Broker, block_on, free_port};

pub struct Cluster {
    pub brokers: Vec<Broker>,
}

impl Cluster {
    /// Starts all three at once: one alone never answers.
    pub fn start() -> Cluster {
        let ports: Vec<(u16, u16)> = (0..3).map(|_| (free_port(), free_port())).collect();
        let voters = ports.iter().zip(1..).map(|((_, port), node)| format!("{node}@127.0.0.1:{port}"));
        let voters = voters.collect::<Vec<_>>().join(",");
        let brokers = thread::scope(|scope| {
            let starting: Vec<_> = ports
                .iter()
                .zip(1..)
                .map(|((port, controller), node)| {
                    let voters = voters.as_str();
                    scope.spawn(move || {
                        let address = format!("127.0.0.1:{port}");
                        let listeners = format!("PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}");
                        let node = node.to_string();
                        let properties = [
                            ("node.id", node.as_str()),
                            ("listeners", &listeners),
                            ("controller.quorum.voters", voters),
                            ("default.replication.factor", "3"),
                            ("min.insync.replicas", "2"),
                            ("transaction.state.log.replication.factor", "3"),
                            ("transaction.state.log.min.isr", "2"),
                            // A broker that dies is missed within seconds.
                            ("broker.session.timeout.ms", "3000"),
                            ("broker.heartbeat.interval.ms", "500"),
                            ("replica.lag.time.max.ms", "3000"),
                        ];
                        Broker::start_as(&address, &properties, &[], &[])
                    })
                })
                .collect();
            starting.into_iter().map(|broker| broker.join().expect("the broker starts")).collect()
        });
        Cluster { brokers }
    }

    /// All brokers' addresses.
    pub fn address(&self) -> String {
        self.brokers.iter().map(|broker| broker.address.as_str()).collect::<Vec<_>>().join(",")
    }

    /// A topic with three replicas, of which `min_insync` must store each record.
    pub fn topic(&self, name: &str, partitions: i32, min_insync: &str) -> String {
        let name = kafka::unique(name);
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(3)).set("min.insync.replicas", min_insync);
        let created = block_on(kafka::admin(&self.address()).create_topics([&topic], &AdminOptions::new()));
        created.expect("the cluster answers").remove(0).expect("the topic is created");
        name
    }
}
