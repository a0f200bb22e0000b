"""The protocol the rooms speak: gRPC contracts, frames, key layout, identifiers, errors.

Kept empty on purpose: the cores import `lambent_proto.ids`, and must not reach gRPC through it.
"""
