#!/bin/sh
# Tells where some of the kernel's symbols are, then calls into the kernel for a while: for a debugger's tests.
grep -wE 'start_kernel|__x64_sys_sync|linux_banner' /proc/kallsyms | tr -d '\r'
echo 'symbols: ready'
n=0
while [ $n -lt 100 ]; do sync; usleep 20000; n=$((n + 1)); done
echo 'symbols: done'
# Waits until that is out: the end of the session loses what is not.
stty sane
