#!/bin/sh
# Runs on a host of the cluster, beside what cluster.py has sent there.
#   host.sh apply PYTHON WHEEL[EXTRAS]    makes the host what the bundle says; prints what it changed, a line each
#   host.sh start PART...                 starts what does not run; once more it does nothing
#   host.sh pending                       prints the parts that run with something older than what is installed
#   host.sh restart PART                  a worker has its instances moved away first, by itself
set -eu
cd "$(dirname "$0")"
state=/var/lib/lambent-cluster

# What has changed is remembered until the restart, whatever becomes of this run.
changed() {
    echo "$1"
    shift
    for part; do touch "$state/pending-$part"; done
}

# In a condition `set -e` does not hold, so what fails ends it here. The mark is made first: who is interrupted
# restarts once too often, and never runs on with what was before.
install_if_other() { # FROM TO MODE OWNER [PART]
    cmp -s "$1" "$2" && return 1
    install -m "$3" -o "${4%:*}" -g "${4#*:}" "$1" "$2.new" || exit 1
    if [ -n "${5-}" ]; then touch "$state/pending-$5" || exit 1; fi
    mv "$2.new" "$2" || exit 1
}

apply() {
    id lambent >/dev/null 2>&1 || useradd --system --home-dir /var/lib/lambent --shell /usr/sbin/nologin lambent
    install -d -m 755 /var/lib/lambent /etc/lambent "$state"
    parts=$(cat parts) packages=$(cat packages)
    case $packages in /*) [ -d "$packages" ] || install -d -m 755 -o lambent -g lambent "$packages" ;; esac
    if [ -e etc/etcd.json ] && ! command -v etcd >/dev/null; then
        echo "etcd is not installed here: which release, docs/etcd.md says (Debian: apt-get install etcd-server)" >&2
        exit 1
    fi
    wheel=${2%%\[*}
    sum="$(sha256sum "$wheel") $2"
    if [ "$(cat "$state/program" 2>/dev/null)" != "$sum" ]; then
        test -x /opt/lambent/bin/python || "$1" -m venv /opt/lambent
        /opt/lambent/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
        /opt/lambent/bin/python -m pip install --quiet --disable-pip-version-check "$PWD/$2"
        for part in $parts; do [ "$part" = etcd ] || changed "program: $part" "$part"; done
        printf %s "$sum" >"$state/program"
    fi
    for file in etc/*; do
        name=${file#etc/}
        case $name in
        *.key) if install_if_other "$file" "/etc/lambent/$name" 600 lambent:lambent; then changed "key: $name"; fi ;;
        *.crt) if install_if_other "$file" "/etc/lambent/$name" 644 root:root; then changed "certificate: $name"; fi ;;
        *) if install_if_other "$file" "/etc/lambent/$name" 640 root:lambent "${name%.*}"; then
            changed "settings: $name" "${name%.*}"
        fi ;;
        esac
    done
    units=
    for part in $parts; do
        unit=lambent-$part.service
        if install_if_other "systemd/$unit" "/etc/systemd/system/$unit" 644 root:root "$part"; then
            changed "unit: $unit" "$part"
            units=yes
        fi
    done
    [ -z "$units" ] || systemctl daemon-reload
}

start() {
    for part; do
        systemctl is-active --quiet "lambent-$part" && continue
        systemctl enable --quiet "lambent-$part"
        systemctl start "lambent-$part"
        rm -f "$state/pending-$part"
        echo "started: $part"
    done
}

case $1 in
apply) apply "$2" "$3" ;;
start) shift && start "$@" ;;
pending) for mark in "$state"/pending-*; do [ ! -e "$mark" ] || echo "${mark##*/pending-}"; done ;;
restart)
    systemctl restart "lambent-$2"
    rm -f "$state/pending-$2"
    ;;
esac
