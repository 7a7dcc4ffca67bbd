# Builds Tidegate and nothing else into a small image.
#
#   docker build -t tidegate .
#   docker run -p 8080:8080 -v ./tidegate.yaml:/etc/tidegate/tidegate.yaml:ro -v tidegate:/var/lib/tidegate tidegate

FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches live outside of the image, so the binary is copied out of them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --bin tidegate \
    && install -D -m 0755 target/dist/tidegate /out/tidegate

# Of the same Debian as the build, for the same libc.
FROM debian:bookworm-slim
RUN groupadd --system --gid 65532 tidegate \
    && useradd --system --uid 65532 --gid 65532 --no-create-home --home-dir /var/lib/tidegate \
       --shell /usr/sbin/nologin tidegate \
    && install -d -o tidegate -g tidegate -m 0700 /var/lib/tidegate \
    && install -d -o tidegate -g tidegate -m 0750 /run/tidegate \
    && install -d -m 0755 /etc/tidegate
COPY --from=build /out/tidegate /usr/local/bin/tidegate
# Whom https endpoints, webhooks and queries are trusted to by.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt

# Loopback is of no use to a scraper outside of the container.
ENV TIDEGATE_TELEMETRY=0.0.0.0:9900
USER 65532:65532
VOLUME /var/lib/tidegate
EXPOSE 8080 9900
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["tidegate", "healthcheck"]
ENTRYPOINT ["tidegate"]
CMD ["run", "-c", "/etc/tidegate/tidegate.yaml"]
