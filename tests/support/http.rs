//! An HTTP client for tests.

/// A client with connections of its own.
pub fn client() -> reqwest::Client {
    // Whoever comes first; the others find it done.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::new()
}
