//! What does a broker show in TLS, and why is it not trusted? One handshake of our own, as librdkafka does it.
//!
//! librdkafka says only that verification failed. This asks the same OpenSSL with the same trust what exactly was wrong.
//! It never decides whom to trust: nothing is sent over these connections.

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openssl::{
    ssl::{SslConnector, SslMethod, SslVerifyMode},
    x509::X509,
};

use super::{settings::Tls, tls};
use crate::error::{Error, Result};

const PATIENCE: Duration = Duration::from_secs(5);

/// What a broker showed.
pub struct Shown {
    /// As `TLSv1.3`.
    pub version: &'static str,
    pub certificate: Option<X509>,
    /// Why the certificate is not trusted, in OpenSSL's words.
    pub distrust: Option<String>,
}

/// Shakes hands with the broker at `address`, whether it is trusted or not.
///
/// # Errors
/// If there is no connection, or no TLS at its other end.
pub fn look(address: &str, settings: &Tls) -> Result<Shown> {
    let (host, _) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let failed = |error: &dyn std::fmt::Display| Error::wait(format!("no TLS with {address}: {error}"));
    let stream = connect(address)?;
    let material = tls::read(settings)?;
    let distrust = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&distrust);
    let mut connector = SslConnector::builder(SslMethod::tls_client()).map_err(|error| failed(&error))?;
    material.trust(&mut connector).map_err(|error| failed(&error))?;
    connector.set_verify_callback(SslVerifyMode::PEER, move |trusted, context| {
        if !trusted {
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.get_or_insert_with(|| context.error().error_string().to_owned());
        }
        // Only looked at: nothing is sent here, and librdkafka decides for itself.
        true
    });
    let stream = connector.build().connect(host, stream).map_err(|error| failed(&error))?;
    let distrust = distrust.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(Shown { version: stream.ssl().version_str(), certificate: stream.ssl().peer_certificate(), distrust })
}

/// A connection to the first address of the name that answers.
///
/// # Errors
/// If the name has no address, or nothing answers there.
pub fn connect(address: &str) -> Result<TcpStream> {
    let unknown = |error: Option<std::io::Error>| {
        let said = Error::wait(format!("no address is known for {address}"));
        error.map_or_else(|| Error::wait(format!("no address is known for {address}")), |error| said.because(error))
    };
    let mut last = None;
    for address in address.to_socket_addrs().map_err(|error| unknown(Some(error)))? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                let limited = stream.set_read_timeout(Some(PATIENCE)).and(stream.set_write_timeout(Some(PATIENCE)));
                limited.map_err(|error| Error::internal("a socket takes no timeout").because(error))?;
                return Ok(stream);
            }
            Err(error) => last = Some(Error::wait(format!("{address} does not answer: {error}")).because(error)),
        }
    }
    Err(last.unwrap_or_else(|| unknown(None)))
}
