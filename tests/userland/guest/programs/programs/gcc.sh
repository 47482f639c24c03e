#!/bin/bash
# The compiler with its optimiser off and on, its program run each time; the assembler and the linker alone; a static program.
for level in 0 2; do
    gcc -std=gnu17 -O$level -msse4.2 -maes -pthread -o program-$level "$here/program.c" -lm && ./program-$level >said-$level
    echo "level $level: exit $?"
done
cat said-2
cmp said-2 said-0 && echo 'the same'
gcc -O2 -static -msse4.2 -maes -pthread -o static "$here/program.c" -lm && ./static | cmp - said-2; echo "static: $?"
cat >start.s <<'ASSEMBLER'
        .globl _start
_start: mov $1, %eax
        mov $1, %edi
        lea text(%rip), %rsi
        mov $6, %edx
        syscall
        mov $60, %eax
        mov $9, %edi
        syscall
text:   .ascii "bytes\n"
ASSEMBLER
as -o start.o start.s && ld -o start start.o && ./start; echo "assembled: $?"
# The older way into the kernel, from 32-bit code.
cat >old.s <<'ASSEMBLER'
        .globl _start
_start: mov $4, %eax
        mov $1, %ebx
        mov $text, %ecx
        mov $3, %edx
        int $0x80
        mov $1, %eax
        mov $6, %ebx
        int $0x80
text:   .ascii "32\n"
ASSEMBLER
as --32 -o old.o old.s && ld -m elf_i386 -o old old.o && ./old; echo "32-bit: $?"
