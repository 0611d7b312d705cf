#!/usr/bin/env bash
# Kills `hack/cluster up` at several moments of its start, without a chance to clean up, and expects `down` to leave
# nothing behind and the next `up` to work. Called by hack/test while no cluster runs.
set -euo pipefail
cd "$(dirname "$0")/../.."

for after in 0.7 1.5 3 5 8; do
  # A session of its own: what is killed is the script with everything that it waits for, not what it started to stay.
  setsid hack/cluster up >/dev/null 2>&1 &
  pid=$!
  sleep "$after"
  kill -9 -- "-$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  hack/cluster down >/dev/null
  hack/cluster verify-clean >/dev/null || {
    echo "left behind by a start killed after $after s:"
    hack/cluster verify-clean
    exit 1
  }
done

# On what a killed start left, without a `down` between.
setsid hack/cluster up >/dev/null 2>&1 &
pid=$!
sleep 3
kill -9 -- "-$pid" 2>/dev/null || true
wait "$pid" 2>/dev/null || true
hack/cluster up
echo "a start can be cut short at any moment"
