#!/usr/bin/env bash
# Jars of the poms in deploy/jars, each set in a folder of its own: .fraudlake/jars/NAME. What is there is left alone.
# Called by setup.sh, and by whoever starts a service that not everybody needs. Usage: deploy/jars.sh NAME...
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "setup: $*" >&2; }

for name in "$@"; do
  pom=$(sha256sum "deploy/jars/$name/pom.xml" | cut -d' ' -f1)
  folder=.fraudlake/jars/$name
  if [ "$(cat "$folder/.pom" 2>/dev/null)" != "$pom" ]; then
    say "jars for $name"
    rm -rf "$folder"
    mkdir -p "$folder"
    if ! mvn -q -B -f "deploy/jars/$name/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/$folder" >"$folder/mvn.log" 2>&1; then
      cat "$folder/mvn.log" >&2
      say "Maven could not fetch an artifact of deploy/jars/$name/pom.xml (an odd host name in its message means: not found)"
      exit 1
    fi
    printf '%s' "$pom" > "$folder/.pom"
  fi
done
