#!/bin/bash
# Known vectors: FIPS 180-4, FIPS 197, SP 800-38A, RFC 4231, RFC 8439, RFC 8032; then keys made here, used and refused.
hex() { od -An -v -tx1 | tr -d ' \n'; echo; }
unhex() { printf "$(sed 's/../\\x&/g' <<<"$1")"; }
for digest in md5 sha1 sha256 sha512 sha3-256 blake2b512; do printf abc | openssl dgst "-$digest" -r; done
head -c 1000000 /dev/zero | tr '\0' a | openssl dgst -sha256 -r
printf 'what do ya want for nothing?' | openssl dgst -sha256 -mac HMAC -macopt key:Jefe -r
unhex 00112233445566778899aabbccddeeff | openssl enc -aes-128-ecb -K 000102030405060708090a0b0c0d0e0f -nopad | hex
unhex 00112233445566778899aabbccddeeff | openssl enc -aes-256-ecb -nopad \
    -K 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f | hex
key=603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4
unhex 6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51 |
    openssl enc -aes-256-cbc -K $key -iv 000102030405060708090a0b0c0d0e0f -nopad | hex
unhex 6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51 |
    openssl enc -aes-256-ctr -K $key -iv f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff | hex
head -c 64 /dev/zero | openssl enc -chacha20 -K "$(printf %064d 0)" -iv "$(printf %032d 0)" | hex
# RFC 8032, section 7.1, test 2, its secret key as PKCS #8.
secret=4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb
unhex 302e020100300506032b657004220420$secret | openssl pkey -inform DER -out ed25519
printf r >message
openssl pkeyutl -sign -inkey ed25519 -rawin -in message -out signature
hex <signature
openssl pkey -in ed25519 -pubout -outform DER | tail -c 32 | hex
openssl pkey -in ed25519 -pubout -out public
openssl pkeyutl -verify -pubin -inkey public -rawin -in message -sigfile signature
printf s >other
openssl pkeyutl -verify -pubin -inkey public -rawin -in other -sigfile signature 2>/dev/null
echo "a wrong message: $?"
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out rsa
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec
for kind in rsa ec; do
    openssl pkey -in $kind -pubout -out $kind.public
    openssl dgst -sha256 -sign $kind -out $kind.signature message
    echo "$kind: $(openssl dgst -sha256 -verify $kind.public -signature $kind.signature message)"
done
openssl prime -hex FFFFFFFFFFFFFFFFFFFFFFFFFFFFFF61
head -c 3000000 /dev/urandom >plain
openssl enc -aes-256-cbc -pbkdf2 -iter 1000 -k secret -in plain | openssl enc -d -aes-256-cbc -pbkdf2 -iter 1000 -k secret | cmp - plain
echo "there and back: $?"
