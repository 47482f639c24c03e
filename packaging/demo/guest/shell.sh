#!/bin/sh
# An interactive shell in the guest; leaving it powers the guest off.
echo "Linux $(uname -r) under Bulkhead. 'exit' powers off."
[ ! -b /dev/vda ] || echo "The demo disk is /dev/vda (ext4): mount /dev/vda /mnt"
exec sh -l
