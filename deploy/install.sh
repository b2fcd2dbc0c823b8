#!/usr/bin/env bash
# Debian packages that this machine lacks: installed when we are root on Debian or Ubuntu, else named; then exit code 1.
# Called by setup.sh, and by whoever starts a service that not everybody needs. Usage: deploy/install.sh PACKAGE...
set -euo pipefail

say() { printf '%s\n' "setup: $*" >&2; }

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  say "missing: $*. On Debian or Ubuntu, as root:"
  say "  apt-get install $*"
  exit 1
fi

# A package may start a server of its own, with its own settings. We start ours: deny that, unless the machine decides.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' > $policy
  chmod 755 $policy
fi
say "installing $*"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
