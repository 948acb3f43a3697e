fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        // The generated `connect` constructor would clash with the call of that name; ours takes a unix socket.
        .build_transport(false)
        .compile_protos(&["proto/causeway.proto"], &["proto"])
}
