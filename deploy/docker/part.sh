#!/bin/sh
# Starts a part, which tells the others the container's own address.
set -eu
: "${LAMBENT_HOST:=$(hostname -i | cut -d ' ' -f 1)}"
export LAMBENT_HOST
exec lambent "$@"
