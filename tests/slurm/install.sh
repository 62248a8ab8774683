#!/bin/sh
# Install SLURM with accounting for its tests, if this is Debian and we may. Its services are not
# started, and where SLURM is there already, nothing is done.
export PATH="$PATH:/usr/sbin"
if command -v slurmctld >/dev/null && command -v munged >/dev/null; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "SLURM is not installed and cannot be: this needs Debian and root" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq &&
    apt-get install -qq --no-install-recommends slurm-wlm munge util-linux \
        slurmdbd mariadb-server-core mariadb-client-core ||
    echo "SLURM could not be installed from Debian's packages" >&2
