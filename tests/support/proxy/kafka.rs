//! Kafka's frames: four bytes of length, then the kind of request and a number by which it is answered.
//!
//! Brokers tell their clients where they are. In whatever a broker answers, its port is replaced by the proxy's, wherever it follows
//! the host; so any broker can stand behind a proxy, and nothing of its own settings is changed.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use super::{super::kafka::PATIENCE, Protocol, Proxy, Upstream, number};

/// The broker acts on the request, and refuses it by this code.
pub type Code = i16;

/// A proxy before a broker without TLS.
pub fn proxy(broker: &str) -> Proxy {
    let (host, port) = broker.rsplit_once(':').expect("host:port");
    let place = |port: u16| [host.as_bytes(), &i32::from(port).to_be_bytes()].concat();
    let own = place(port.parse().expect("a port"));
    let host = host.to_owned();
    Proxy::start(Upstream::Tcp(broker.to_owned()), move |port| Kafka {
        broker: own.clone(),
        proxy: [host.as_bytes(), &i32::from(port).to_be_bytes()].concat(),
        asked: HashMap::new(),
    })
}

/// Lets a held request arrive after all, on a connection of its own; the code by which it is answered.
pub fn arrives(broker: &str, end_txn: &[u8]) -> Code {
    let mut broker = TcpStream::connect(broker).expect("the broker answers");
    broker.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    broker.write_all(end_txn).expect("sent");
    // Length, number, throttle time, code.
    let mut reply = [0; 14];
    broker.read_exact(&mut reply).expect("answered");
    Code::from_be_bytes([reply[12], reply[13]])
}

/// Makes a request that commits one that aborts.
pub fn aborting(end_txn: &[u8]) -> Vec<u8> {
    let mut end_txn = end_txn.to_vec();
    let commits = place_of_verdict(&end_txn);
    assert_eq!(end_txn[commits], 1, "it commits");
    end_txn[commits] = 0;
    end_txn
}

/// The last field; from version 3 on one of tags follows, which is empty.
fn place_of_verdict(end_txn: &[u8]) -> usize {
    end_txn.len() - if i16::from_be_bytes([end_txn[6], end_txn[7]]) < 3 { 1 } else { 2 }
}

struct Kafka {
    /// The broker's host and port as they stand in answers, and what they are replaced by.
    broker: Vec<u8>,
    proxy: Vec<u8>,
    /// What was asked, by its number.
    asked: HashMap<usize, String>,
}

impl Protocol for Kafka {
    fn request_length(&self, bytes: &[u8]) -> Option<usize> {
        Some(4 + number(bytes, 0)?)
    }

    fn reply_length(&self, bytes: &[u8]) -> Option<usize> {
        Some(4 + number(bytes, 0)?)
    }

    fn request(&mut self, frame: &[u8]) -> String {
        let name = match i16::from_be_bytes([frame[4], frame[5]]) {
            0 => "Produce".to_owned(),
            1 => "Fetch".to_owned(),
            22 => "InitProducerId".to_owned(),
            24 => "AddPartitionsToTxn".to_owned(),
            26 if frame[place_of_verdict(frame)] == 1 => "EndTxn commit".to_owned(),
            26 => "EndTxn abort".to_owned(),
            other => format!("request {other}"),
        };
        self.asked.extend(number(frame, 8).map(|number| (number, name.clone())));
        name
    }

    fn reply(&mut self, frame: &mut [u8]) -> Option<String> {
        let places = frame.len().saturating_sub(self.broker.len() - 1);
        for at in 0..places {
            if frame[at..].starts_with(&self.broker) {
                frame[at..at + self.proxy.len()].copy_from_slice(&self.proxy);
            }
        }
        self.asked.remove(&number(frame, 4)?)
    }
}
