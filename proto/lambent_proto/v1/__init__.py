"""The public gRPC contract, `lambent.v1`."""
