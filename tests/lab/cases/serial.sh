# Without --console, ttyS0 goes to standard output as it is, and nothing of ours is mixed in.
bulkhead run --name "$name" --kernel "$kernel" --initrd /lab/initramfs --cpu kvm --memory 256M \
    --append "$append console=ttyS0 bulkhead.script=report" </dev/null >console 2>said || fail "status $?; $(tail -n 1 said)"
said "report: end"
no_trouble
grep -q . said || exit 0
if grep -q 'report:' said; then fail "the guest's output came out on standard error"; fi
if grep -q 'bulkhead' console; then fail "our messages came out on standard output"; fi
