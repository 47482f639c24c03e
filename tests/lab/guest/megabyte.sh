#!/bin/sh
# Prints exactly 1 MiB between two marks, with nothing translated on the way.
stty raw -echo
printf 'begin\n'
# Through cat: head writes to a terminal line by line, and every write is a request of its own.
seq -w 1 3000000 | head -c 1048576 | cat
printf 'end\n'
