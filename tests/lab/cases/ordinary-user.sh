# An ordinary user of the group kvm boots a guest in the same jails, and audits it.
new_disk
chown lab "$disk"
mkdir -p /run/user/1000
chown lab /run/user/1000
cat >as-user <<'SH'
#!/bin/sh
# su takes one string; the words of our command hold spaces but no quotes.
line=
for word in "$@"; do line="$line '$word'"; done
exec su lab -s /bin/sh -c "export PATH=$PATH XDG_RUNTIME_DIR=/run/user/1000; exec $line"
SH
chmod +x as-user
as=./as-user
start report --rng
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
said "report: disk vda"
said "report: end"
start wait --rng
await "wait: up"
./as-user bulkhead audit "$name" >audited 2>&1 || fail "audit: status $?; $(grep -iE 'deviat|weak|fail' audited | head -n 1)"
tell enough
ended || fail "bulkhead run: status $?; $(tail -n 1 said)"
rm -r /run/user/1000
