#!/bin/sh
# The documentation of portcullisctl is what portcullisctl says: reference_test.sh PROGRAM FILE.
"$1" reference | diff -u "$2" - || {
  echo "$2 is out of date; write it anew with: portcullisctl reference > docs/cli.md" >&2
  exit 1
}
