//! Where do spans go? To an OpenTelemetry collector, by OTLP over HTTP, where the standard variables name one.
//!
//! A span is a step with its duration: `tick`, `evaluate`, `seal`, `transaction`. It names audiences, destinations, runs, positions and
//! counts, and like a log line never a person. Spans of [`CONTEXT`] only carry fields to log lines, and are not exported.

use std::{env, future::ready, pin::Pin, sync::OnceLock, time::Duration};

use bytes::Bytes;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    registry::LookupSpan,
};

use crate::{Error, Result};

/// The target of spans that say what log lines are about, for as long as it may be.
pub const CONTEXT: &str = "rollcall::context";

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// The layer that exports spans; none unless `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set.
///
/// # Errors
/// [`crate::Kind::Settings`] if one of the variables is not understood.
pub(super) fn layer<S>() -> Result<Option<impl Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let specific = |name: &str| variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
    let is_wanted = specific("ENDPOINT").or(variable("OTEL_EXPORTER_OTLP_ENDPOINT")).is_some()
        && variable("OTEL_SDK_DISABLED").is_none_or(|value| !value.eq_ignore_ascii_case("true"))
        && variable("OTEL_TRACES_EXPORTER").is_none_or(|value| value != "none");
    if !is_wanted {
        return Ok(None);
    }
    let protocol = specific("PROTOCOL").or(variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if protocol.as_deref().is_some_and(|protocol| protocol != "http/protobuf") {
        return Err(Error::settings("spans are exported by OTLP over HTTP alone")
            .help("Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, and the endpoint of HTTP: port 4318, commonly."));
    }
    let exporter = SpanExporter::builder().with_http().with_http_client(Client::new()).build().map_err(|_| {
        // The cause is not told: an address may hold a password.
        Error::settings("spans cannot be exported").help("Check the variables OTEL_EXPORTER_OTLP_….")
    })?;
    let mut resource =
        Resource::builder().with_attributes([KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))]);
    if variable("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("rollcall");
    }
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    let tracer = PROVIDER.get_or_init(|| provider).tracer("rollcall");
    let own = Targets::new().with_target("rollcall", LevelFilter::INFO).with_target(CONTEXT, LevelFilter::OFF);
    Ok(Some(tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_filter(own)))
}

/// Sends what is left; a collector that does not answer is given up.
pub(super) fn end() {
    if let Some(provider) = PROVIDER.get()
        && let Err(error) = provider.shutdown_with_timeout(Duration::from_secs(2))
    {
        tracing::warn!(%error, "the last spans were not exported");
    }
}

/// The HTTP client that the program has anyway.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new() -> Client {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        Client(config.timeout_global(Some(Duration::from_secs(10))).build().into())
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let mut answer = self.0.run(Request::from_parts(head, body.to_vec()))?;
        let body = answer.body_mut().read_to_vec()?;
        Ok(answer.map(|_| body.into()))
    }
}

impl HttpClient for Client {
    // Blocks, on the exporter's own thread. Written out as `async_trait` would.
    fn send_bytes<'own, 'future>(
        &'own self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'own: 'future,
        Self: 'future,
    {
        Box::pin(ready(self.send(request)))
    }
}
