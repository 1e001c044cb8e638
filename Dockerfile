# The program alone: Postgres and Kafka are other containers, or the ones you have.
FROM rust:1.95.0-bookworm AS build
# librdkafka and OpenSSL are built from source, so that no system library is a hidden prerequisite.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ make perl && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs README.md ./
COPY src ./src
COPY migrations ./migrations
COPY data ./data
# Cargo reads no manifest whose targets are missing.
COPY benches ./benches
COPY tests/main.rs ./tests/main.rs
COPY fuzz ./fuzz
# Tests make the program die on purpose; what is released cannot be made to.
RUN LIBZ_SYS_STATIC=1 cargo build --release --locked --bin rollcall && ! grep -q ROLLCALL_FAULT target/release/rollcall

FROM debian:12.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/rollcall rollcall
COPY --from=build /build/target/release/rollcall /usr/local/bin/rollcall
# The program asks its own listener: the image has no curl.
HEALTHCHECK --interval=30s --timeout=6s --start-period=30s CMD ["rollcall", "health"]
USER rollcall
WORKDIR /var/lib/rollcall
ENV ROLLCALL_CONFIG=/etc/rollcall/rollcall.yaml
ENTRYPOINT ["rollcall"]
CMD ["serve"]
