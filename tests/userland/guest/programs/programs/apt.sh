#!/bin/bash
# The package managers' own view; the host reads the same from the image. Documentation was left out of the image.
apt-get --version | head -n 1
dpkg -l | awk '/^ii/ { sub(/:.*/, "", $2); print $2, $3 }'
echo "changed files: $(dpkg --verify bash coreutils | grep -vc ' /usr/share/')"
