#!/bin/bash
# Hashes, regular expressions, formats, big numbers, packed data, sorting.
exec perl - <<'PERL'
use strict; use warnings;
use Digest::SHA qw(sha1_hex sha512_hex); use Digest::MD5 qw(md5_hex); use Math::BigInt; use POSIX qw(floor fmod strftime); use List::Util qw(sum reduce);
my %h; $h{$_ % 97} += $_ for 1 .. 100000;
print join(",", map {"$_=$h{$_}"} sort {$a <=> $b} keys %h), "\n";
printf "%.17g %.17g %s %d\n", sqrt(2), 1 / 3, 1e15 + 0.5, -7 / 2;
print sha1_hex("abc"), " ", md5_hex("abc"), "\n", sha512_hex("abc"), "\n";
print Math::BigInt->new(2)->bpow(300), " ", Math::BigInt->new("123456789012345678901234567890")->bmod(97), "\n";
my $text = join " ", map { ("the", "quick", "brown", "fox")[$_ % 4] . $_ } 0 .. 2000;
my %by; $by{$1}++ while $text =~ /\b([a-z]+)\d*7\b/g;
print join(" ", map {"$_:$by{$_}"} sort keys %by), "\n";
(my $swapped = $text) =~ s/(\w+) (\w+)/$2 $1/g; print md5_hex($swapped), "\n";
print join(":", unpack("A3 n C/a* w", pack("A3 n C/a* w", "abc", 258, "hello", 300))), "\n";
my @sorted = sort { $a->[1] <=> $b->[1] || $a->[0] cmp $b->[0] } map { [$_, ($_ * 7919) % 101] } 1 .. 500;
print join(",", map { $_->[0] } @sorted[0 .. 19]), "\n";
print strftime("%Y-%m-%d %H:%M:%S", gmtime(1000000000)), " ", fmod(10, 3), " ", floor(-2.5), "\n";
my $f; $f = sub { my $n = shift; $n < 2 ? $n : $f->($n - 1) + $f->($n - 2) }; print $f->(18), "\n";
my $pid = open(my $child, "-|") // die; if (!$pid) { print "from the child\n"; exit 5 } print <$child>; close $child; print $? >> 8, "\n";
eval { die { code => 42 } }; print $@->{code}, "\n";
print "\x{263a}" =~ /\p{So}/ ? "symbol" : "none", " ", ucfirst lc "ÄRGER", " ", sprintf("%vd", "1.22.333"), "\n";
PERL
