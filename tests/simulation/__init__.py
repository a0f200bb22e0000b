"""The three real cores under a virtual clock and a hostile network.

`network` is the world's clock, processes and connections, `store` its etcd, `frontend`, `placement` and
`worker` are shells as thin as the real ones, `world` puts them together and hurts them, `promises` watches.
"""
