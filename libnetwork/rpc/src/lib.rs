//! The gRPC contract of causewayd: messages, server, client, one error mapping.
