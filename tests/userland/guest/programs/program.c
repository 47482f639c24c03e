// What a compiled program may ask of a CPU: integers, floats of all widths, vectors, threads, signals, code made at run time.
// Compiled and run in the guest by programs/gcc.sh; the host has its answer.
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <nmmintrin.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wmmintrin.h>

static void integers(void) {
    unsigned __int128 wide = 1;
    for (unsigned i = 1; i <= 34; i++) wide *= i;
    printf("34! = %llu %llu\n", (unsigned long long)(wide / 1000000000000000000ull), (unsigned long long)(wide % 1000000000000000000ull));
    uint64_t x = 88172645463325252ull, sum = 0;
    for (int i = 0; i < 100000; i++) {
        x ^= x << 13; x ^= x >> 7; x ^= x << 17;
        sum += x / (1 + (x & 0xffff)) + (uint64_t)((int64_t)x >> 5) + __builtin_popcountll(x) + __builtin_clzll(x | 1);
        sum = (sum << 7 | sum >> 57) ^ __builtin_bswap64(x);
    }
    printf("mixed %llx\n", (unsigned long long)sum);
}

static void floats(void) {
    volatile float f = 1; volatile double d = 1; volatile long double l = 1;
    for (int i = 1; i < 1000; i++) { f = f * 1.01f - 1.0f / i; d = d / 1.01 + sqrt(i); l = l * 1.0001L + 1.0L / i; }
    printf("%a %a %La %a %.18Lg\n", f, d, l, (double)f, sqrtl(2));
    printf("%d %d %d %ld\n", isnan(f * NAN), isinf(d / 0.0), (int)-2.7, lrint(2.5));
    printf("%.15g %.15g %.15g %.15Lg\n", sin(1), exp(1), pow(2, 0.5), atanl(1) * 4);
}

static void vectors(void) {
    __m128i a = _mm_set_epi32(1, -2, 300000, -4), b = _mm_set1_epi32(70000);
    uint32_t out[4];
    _mm_storeu_si128((__m128i *)out, _mm_shuffle_epi8(_mm_mullo_epi32(a, b), _mm_set_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12)));
    printf("%x %x %x %x\n", out[0], out[1], out[2], out[3]);
    uint32_t crc = ~0u;
    for (const char *text = "123456789"; *text; text++) crc = _mm_crc32_u8(crc, *text);
    _mm_storeu_si128((__m128i *)out, _mm_aesenc_si128(a, b));
    printf("crc32c %x aes %x %x\n", ~crc, out[0], out[3]);
}

static atomic_long counter;
static long guarded;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *count(void *unused) {
    for (int i = 0; i < 20000; i++) {
        atomic_fetch_add(&counter, 1);
        pthread_mutex_lock(&lock); guarded += 2; pthread_mutex_unlock(&lock);
    }
    return unused;
}
static void threads(void) {
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) pthread_create(&thread[i], NULL, count, NULL);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    printf("threads %ld %ld\n", (long)counter, guarded);
}

static sigjmp_buf back;
static volatile long where;
static void caught(int number, siginfo_t *info, void *unused) { (void)unused; where = (long)info->si_addr & 0xfff; siglongjmp(back, number * 100 + info->si_code); }
static void signals(void) {
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
    int numbers[] = {SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGBUS};
    for (int i = 0; i < 5; i++) sigaction(numbers[i], &action, NULL);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile int zero = 0;
    int got = sigsetjmp(back, 1);
    if (!got) { page[0x123] = 1; } printf("write to a read-only page: %d %lx\n", got, where);
    got = sigsetjmp(back, 1);
    if (!got) { *(volatile char *)0x456; } printf("read of nothing: %d %lx\n", got, where);
    got = sigsetjmp(back, 1);
    if (!got) { asm volatile("idivl %0" ::"r"(zero) : "eax", "edx"); } printf("division by zero: %d\n", got);
    got = sigsetjmp(back, 1);
    if (!got) { asm volatile("ud2"); } printf("no instruction: %d\n", got);
    got = sigsetjmp(back, 1);
    if (!got) { asm volatile("int3"); } printf("breakpoint: %d\n", got);
    got = sigsetjmp(back, 1);
    if (!got) { asm volatile("hlt"); } printf("privileged: %d %lx\n", got, where);
    got = sigsetjmp(back, 1);
    if (!got) { *(volatile char *)0x8000000000000000ull; } printf("not canonical: %d\n", got);
    got = sigsetjmp(back, 1);
    if (!got) { ((int (*)(void))page)(); } printf("not executable: %d\n", got);
    got = sigsetjmp(back, 1);
    if (!got) { asm volatile("pushf; orl $0x100, (%%rsp); popf; nop" ::: "cc", "memory"); } printf("single step: %d\n", got);
    got = sigsetjmp(back, 1);
    if (!got) { asm volatile("movaps 1(%0), %%xmm0" ::"r"(page) : "xmm0"); } printf("not aligned: %d\n", got);
    // rep movs that meets a missing page half-way: what was copied before it stays copied.
    char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(two + 4096, 4096);
    static char from[256];
    for (int i = 0; i < 256; i++) from[i] = i;
    got = sigsetjmp(back, 1);
    if (!got) { void *s = from, *d = two + 4000; long n = 256; asm volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n)::"memory"); }
    printf("string half-way: %d %lx last %d\n", got, where, (unsigned char)two[4095]);
}

static void own_code(void) {
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long sum = 0;
    for (int i = 0; i < 1000; i++) {
        memcpy(code, (unsigned char[]){0xb8, i, i >> 8, 0, 0, 0xc3}, 6);
        sum += ((int (*)(void))code)();
    }
    // An instruction that changes the next one.
    memcpy(code, (unsigned char[]){0xc6, 0x05, 1, 0, 0, 0, 7, 0xb8, 1, 0, 0, 0, 0xc3}, 13);
    printf("own code %ld %d\n", sum, ((int (*)(void))code)());
}

static void processes(void) {
    int sum = 0;
    for (int i = 0; i < 30; i++) {
        int pipe_[2], status;
        if (pipe(pipe_)) exit(1);
        pid_t child = fork();
        if (!child) { char c = i; if (write(pipe_[1], &c, 1) != 1) _exit(99); _exit(i); }
        char c = 0;
        if (read(pipe_[0], &c, 1) != 1) exit(2);
        waitpid(child, &status, 0);
        sum += c + WEXITSTATUS(status);
        close(pipe_[0]); close(pipe_[1]);
    }
    printf("processes %d\n", sum);
}

int main(void) {
    integers(); floats(); vectors(); threads(); signals(); own_code(); processes();
    fflush(stdout);
    return 42;
}
