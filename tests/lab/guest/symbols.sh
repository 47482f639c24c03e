#!/bin/sh
# Tells where some of the kernel's symbols are, then calls into the kernel a few times: for a debugger's tests.
grep -wE 'start_kernel|__x64_sys_sync|linux_banner' /proc/kallsyms
n=0
while [ $n -lt 20 ]; do sync; usleep 10000; n=$((n + 1)); done
echo 'symbols: done'
# Waits until that is out: the end of the session loses what is not.
stty sane
