#!/usr/bin/env bash
# Everything that a fresh machine needs, once: Python environment, jars, compiled kernels. A second run changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
state=.fraudlake

say() { printf '%s\n' "setup: $*" >&2; }

# --- programs -------------------------------------------------------------------------------------------------------
python=""
for candidate in python3.11 python3 python; do
  if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
java_ok() { command -v java >/dev/null && java -version 2>&1 | grep -qE 'version "17[."]'; }

wanted=()
[ -n "$python" ] || wanted+=(python3.11 python3.11-venv)
java_ok || wanted+=(openjdk-17-jre-headless)
command -v mvn >/dev/null || wanted+=(maven)
if [ ${#wanted[@]} -gt 0 ]; then
  deploy/install.sh "${wanted[@]}"
  [ -n "$python" ] || python=python3.11
  java_ok || { say "java is not version 17: put a Java 17 first on PATH"; exit 1; }
fi

# --- Python environment, from the hashed lock -----------------------------------------------------------------------
lock=$(sha256sum requirements.lock | cut -d' ' -f1)
if [ "$(cat .venv/.lock 2>/dev/null)" != "$lock" ]; then
  say "Python packages from requirements.lock (some minutes the first time)"
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
  printf '%s' "$lock" > .venv/.lock
fi

# The rooms are importable from everywhere, and every process takes its compiled kernels from the cache made below.
path="$PWD
import os; os.environ.setdefault('NUMBA_CACHE_DIR', '$PWD/$state/numba')"
pth=.venv/lib/python3.11/site-packages/fraudlake.pth
[ "$(cat $pth 2>/dev/null)" = "$path" ] || printf '%s\n' "$path" > $pth

# --- jars -----------------------------------------------------------------------------------------------------------
deploy/jars.sh broker spark

# --- compiled kernels: seconds here, or seconds at every first use ---------------------------------------------------
# What a kernel computes follows from more than its own file, such as the order of the features: every file of a room that
# has kernels counts. numba itself notices a change of a function's own file only.
rooms=$(grep -rlE --include='*.py' 'njit|import compiled' -- */ | cut -d/ -f1 | grep -vx tests | sort -u)
kernels=$(cat requirements.lock $(find $rooms -name '*.py' | sort) | sha256sum | cut -d' ' -f1)
if [ "$(cat $state/numba/.kernels 2>/dev/null)" != "$kernels" ]; then
  say "compiling kernels"
  rm -rf $state/numba
  mkdir -p $state/numba
  .venv/bin/python -m lakehouse.warming
  printf '%s' "$kernels" > $state/numba/.kernels
fi

# --- Java classes: a third of a short job's processor time, or seconds here -------------------------------------------
archive=$( (cat requirements.lock deploy/jars/spark/pom.xml; java -version 2>&1) | sha256sum | cut -d' ' -f1)
if [ "$(cat $state/jars/spark/.classes 2>/dev/null)" != "$archive" ]; then
  say "archiving Java classes (a minute)"
  .venv/bin/python -m lakehouse.class_archive >$state/class_archive.log 2>&1 \
    || { cat $state/class_archive.log >&2; exit 1; }
  printf '%s' "$archive" > $state/jars/spark/.classes
fi
