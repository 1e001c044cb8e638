//! A web server of one answer, on a thread of its own.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use openssl::ssl::{SslAcceptor, SslMethod};

use crate::support::certificates::Pair;

/// Its URL. The request's first line, headers and body, in one text, are what it answers to.
pub fn answers(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
    format!("http://{}", serve(Some, answer))
}

/// The same over TLS, with this certificate.
pub fn answers_with(pair: &Pair, answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("OpenSSL");
    acceptor.set_certificate(&pair.certificate).expect("a certificate");
    acceptor.set_private_key(&pair.key).expect("its key");
    let acceptor = acceptor.build();
    format!("https://{}", serve(move |stream| acceptor.accept(stream).ok(), answer))
}

/// `open` makes a connection ready to talk over, or gives it up.
fn serve<S: Read + Write>(
    open: impl Fn(TcpStream) -> Option<S> + Send + 'static,
    answer: impl Fn(&str) -> (u16, String) + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Some(stream) = open(stream.expect("a connection")) else { continue };
            let mut reader = BufReader::new(stream);
            let mut request = String::new();
            while reader.read_line(&mut request).is_ok_and(|read| read > 2) {}
            let length =
                request.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).expect("the body");
            request.push_str(&String::from_utf8_lossy(&body));
            let (status, text) = answer(&request);
            let length = text.len();
            let head = format!("HTTP/1.1 {status} Answer\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            drop(reader.get_mut().write_all((head + &text).as_bytes()));
        }
    });
    address
}
