# The image of Sluice: its binaries, a CA bundle, and nothing else; docs/image.md says how it is built.

# Any image with Rust of rust-toolchain.toml's version, a C compiler, make, perl and a CA bundle. A release
# gives it with its digest: --build-arg BUILDER=rust:1.95.0-bookworm@sha256:…
ARG BUILDER=rust:1.95.0-bookworm

FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
# With its file in place, rustup would fetch the components that only developers need.
RUN wanted=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml) && rm rust-toolchain.toml && \
    found=$(rustc --version | cut -d ' ' -f 2) && \
    { test "$found" = "$wanted" || { echo "BUILDER has Rust $found, this needs $wanted" >&2; exit 1; }; }

# A static build gives -static to all C compilers, and OpenSSL's Configure then leaves out threads: its counters
# are no longer atomic, and two connections that log in at once corrupt the heap. Configure must not see it.
RUN printf '%s\n' '#!/bin/sh' \
      'for word; do shift; test "$word" = -static || set -- "$@" "$word"; done' 'exec perl "$@"' \
      > /usr/local/bin/perl-without-static && chmod 755 /usr/local/bin/perl-without-static

ARG REVISION=unknown
ARG SOURCE_DATE_EPOCH=0
# Static by glibc, so that the final stage needs no libraries. Only with --target do the flags leave build
# scripts and macros alone, which must be dynamic. Names of functions are kept: a panic prints them. The
# secret "ca" is for networks whose proxy has an authority of its own; it gets into no layer. The time of the
# build, which OpenSSL keeps, is one for all commits: another would have all C compiled again.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    --mount=type=secret,id=ca \
    if test -s /run/secrets/ca; then export CARGO_HTTP_CAINFO=/run/secrets/ca; fi && \
    target=$(rustc --print host-tuple) && \
    export SOURCE_DATE_EPOCH=0 SLUICE_COMMIT="$(echo "$REVISION" | cut -c 1-12)" && \
    export OPENSSL_SRC_PERL=/usr/local/bin/perl-without-static && \
    export CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=debuginfo && \
    export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/usr/local/cargo/registry/src=" && \
    cargo build --locked --release --target "$target" --bins \
      -p sluice-ingest -p sluice-processor -p sluice-ctl && \
    cd "target/$target/release" && \
    { grep -rqs "define OPENSSL_THREADS" --include=configuration.h build || \
      { echo "OpenSSL was built without threads" >&2; exit 1; }; } && \
    install -D -t /image/usr/bin sluice-ingest sluice-processor sluicectl
RUN install -D -m 644 -t /image/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt && \
    find /image -exec touch --date="@$SOURCE_DATE_EPOCH" {} +

FROM scratch
COPY --from=build /image/ /
ENV PATH=/usr/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="Signed webhooks in, clean Kafka topics out, each exactly once" \
      org.opencontainers.image.authors="The Sluice authors" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
