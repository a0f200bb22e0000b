"""Programs that use a fleet as strangers do: through the `lambent` command, gRPC and /proc."""
