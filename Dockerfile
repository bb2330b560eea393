# Images from one build:
#   docker build --target runtime -t flowmeter .           the five services and the command line
#   docker build --target sandbox -t flowmeter-sandbox .   the stand-ins for n8n, Stripe and mail
#   docker build --target sbom --output sbom .             a list of everything that is compiled in (CycloneDX)
#
# The folders for dependencies and build results are mounted from BuildKit's cache, so a change of one crate
# rebuilds that crate and those above it. Every stage runs on the platform that it builds for; docs/containers.md
# shows how to build for several.

FROM rust:1.95-bookworm AS build
WORKDIR /src
ENV CARGO_TERM_COLOR=never
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --release \
        --package collector --package aggregator --package billing --package alerts --package gateway \
        --package flowmeter --package sandbox \
    && mkdir /out \
    && cp target/release/flowmeter target/release/flowmeter-collector target/release/flowmeter-aggregator \
        target/release/flowmeter-billing target/release/flowmeter-alerts target/release/flowmeter-gateway \
        target/release/flowmeter-sandbox /out/

FROM build AS list
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo install --locked --root /tools cargo-cyclonedx@0.5.9 \
    && PATH=/tools/bin:$PATH dev/sbom.sh /sbom

FROM scratch AS sbom
COPY --from=list /sbom/ /

# The C library, the certificates of the world's authorities, and nothing that could be run: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot AS base
COPY --from=build /out/flowmeter /usr/local/bin/
USER 10001:10001
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"

FROM base AS sandbox
LABEL org.opencontainers.image.title="Flowmeter sandbox" \
      org.opencontainers.image.description="Stand-ins for n8n, Stripe and a mail server, for demos and tests"
COPY --from=build /out/flowmeter-sandbox /usr/local/bin/
# A volume mounted here belongs to the user above.
COPY --from=build --chown=10001:10001 /src/dev/sandbox/demo.yaml /state/
WORKDIR /state
EXPOSE 4100 4125
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["flowmeter", "health", "http://127.0.0.1:4100/clock"]
CMD ["flowmeter-sandbox", "--listen", "0.0.0.0:4100", "--smtp", "0.0.0.0:4125"]

FROM base AS runtime
LABEL org.opencontainers.image.title="Flowmeter" \
      org.opencontainers.image.description="Meters workflow executions: the five services and the command line"
COPY --from=build /out/flowmeter-collector /out/flowmeter-aggregator /out/flowmeter-billing \
    /out/flowmeter-alerts /out/flowmeter-gateway /usr/local/bin/
EXPOSE 8080 8081 9100
# Database and broker answer: `ops.listen` of every service, on its default port.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["flowmeter", "health", "http://127.0.0.1:9100/readyz"]
# The service is chosen by the command: flowmeter-collector, -aggregator, -billing, -alerts or -gateway.
CMD ["flowmeter", "--help"]
