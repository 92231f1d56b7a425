#!/bin/sh
# data.sh OUT: an empty data partition. Its UUID and hash seed are fixed, so
# that it is the same bytes each time; it holds no secret.
set -eu
. "$(dirname "$0")/common.sh"

need mkfs.ext4 e2fsprogs
rm -f "$1"
truncate -s 64M "$1"
E2FSPROGS_FAKE_TIME=$epoch mkfs.ext4 -q -F -L data -m 0 -J size=4 -U 50584c46-0000-4000-8000-000000000003 \
	-E hash_seed=50584c46-0000-4000-8000-000000000004,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0 "$1"
