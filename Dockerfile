# The toolchain is that of rust-toolchain.toml; a test compares the two.
FROM rust:1.95.0-slim-bookworm AS build
# The etcd client is generated from protobuf files; the C compiler and CMake build aws-lc.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates cmake g++ libprotobuf-dev make protobuf-compiler \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /seedbed
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY .cargo .cargo
COPY src src
COPY build build
# Named as a target in Cargo.toml, so Cargo wants to see it; not built here.
COPY tests/testbed/program.rs tests/testbed/program.rs
RUN build/release.sh /out

# The program, the public CAs and the C library of the build stage, whose resolver handles search
# domains, nsswitch and TCP fallback as every other pod's does.
FROM scratch
COPY --from=build /out/ /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/seedbed"]
CMD ["operator"]
