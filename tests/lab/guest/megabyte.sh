#!/bin/sh
# Prints exactly 1 MiB between two marks, with nothing translated on the way.
stty raw -echo
printf 'begin\n'
seq -w 1 3000000 | head -c 1048576
printf 'end\n'
